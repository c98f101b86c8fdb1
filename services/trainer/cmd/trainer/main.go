// Command trainer publishes the model that profiles are read with.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/trainer"
)

func main() { app.Main(trainer.Service, trainer.Run) }
