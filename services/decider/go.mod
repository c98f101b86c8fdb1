module github.com/tempismo/tempismo/services/decider

go 1.26.0

replace github.com/tempismo/tempismo/pkg => ../../pkg
