module github.com/tempismo/tempismo/services/tempismo

go 1.26.0

replace (
	github.com/tempismo/tempismo/pkg => ../../pkg
	github.com/tempismo/tempismo/services/connector => ../connector
	github.com/tempismo/tempismo/services/console => ../console
	github.com/tempismo/tempismo/services/decider => ../decider
	github.com/tempismo/tempismo/services/detector => ../detector
	github.com/tempismo/tempismo/services/ingest => ../ingest
	github.com/tempismo/tempismo/services/profiler => ../profiler
	github.com/tempismo/tempismo/services/trainer => ../trainer
)
