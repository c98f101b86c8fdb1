module github.com/tempismo/tempismo/services/trainer

go 1.26.0

replace github.com/tempismo/tempismo/pkg => ../../pkg
