// Command console serves the page that shows what Tempismo sees and decides.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/console"
)

func main() { app.Main("console", console.Run) }
