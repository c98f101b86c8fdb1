// Command connector carries decisions out: it calls the CRM's webhook.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/connector"
)

func main() { app.Main("connector", connector.Run) }
