// Command profiler keeps a rolling time profile of every customer.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/profiler"
)

func main() { app.Main(profiler.Service, profiler.Run) }
