// Command detector says which surprises are deviations.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/detector"
)

func main() { app.Main(detector.Service, detector.Run) }
