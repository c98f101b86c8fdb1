// Command decider decides when to write: it turns deviations into decisions.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/decider"
)

func main() { app.Main("decider", decider.Run) }
