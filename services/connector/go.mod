module github.com/tempismo/tempismo/services/connector

go 1.26.0

replace github.com/tempismo/tempismo/pkg => ../../pkg

require golang.org/x/time v0.16.0 // indirect
