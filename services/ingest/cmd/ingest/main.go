// Command ingest takes engagement events and provider webhooks over HTTP and appends them to Kafka.
package main

import (
	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/ingest"
)

func main() { app.Main("ingest", ingest.Run) }
