package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	saslplain "github.com/segmentio/kafka-go/sasl/plain"
	saslscram "github.com/segmentio/kafka-go/sasl/scram"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Config says where Kafka is and how to speak to it. Operators set it.
type Config struct {
	Brokers  []string      `name:"brokers" env:"BROKERS" default:"127.0.0.1:9092" help:"Addresses of Kafka brokers, separated by commas."`
	TLS      bool          `name:"tls" env:"TLS" help:"Speak TLS to Kafka."`
	CAFile   string        `name:"ca-file" env:"CA_FILE" help:"PEM file of the authorities that sign the brokers' certificates; default: the system's."`
	CertFile string        `name:"cert-file" env:"CERT_FILE" help:"PEM file of the client's certificate, for mutual TLS."`
	KeyFile  string        `name:"key-file" env:"KEY_FILE" help:"PEM file of the client's key, for mutual TLS."`
	SASL     string        `name:"sasl" env:"SASL" enum:",plain,scram-sha-256,scram-sha-512" default:"" help:"SASL mechanism: plain, scram-sha-256 or scram-sha-512; empty for none."`
	Username string        `name:"username" env:"USERNAME" help:"User name for SASL."`
	Password config.Secret `name:"password" env:"PASSWORD" help:"Password for SASL."`
}

// Validate reports everything that is wrong with c. It reads the files that c names and contacts no broker.
func (c Config) Validate() error {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		wrong("KAFKA_BROKERS: name at least one broker, as host:port")
	}
	for _, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		if n, e := strconv.Atoi(port); err != nil || host == "" || e != nil || n < 1 || n > 65535 {
			wrong("KAFKA_BROKERS: %q: write host:port", b)
		}
	}
	if !c.TLS && (c.CAFile != "" || c.CertFile != "" || c.KeyFile != "") {
		wrong("KAFKA_TLS: certificates are named but TLS is off: set KAFKA_TLS=true")
	}
	if c.TLS {
		if _, err := c.tls(); err != nil {
			problems = append(problems, err)
		}
	}
	switch c.SASL {
	case "":
		if c.Username != "" || c.Password != "" {
			wrong("KAFKA_SASL: a user name or password is given but no mechanism: set plain, scram-sha-256 or scram-sha-512")
		}
	case "plain", "scram-sha-256", "scram-sha-512":
		if c.Username == "" || c.Password == "" {
			wrong("KAFKA_SASL: %s needs KAFKA_USERNAME and KAFKA_PASSWORD (or KAFKA_PASSWORD_FILE)", c.SASL)
		}
	default:
		wrong("KAFKA_SASL: %q: use plain, scram-sha-256 or scram-sha-512", c.SASL)
	}
	return errors.Join(problems...)
}

func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_CA_FILE: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("KAFKA_CA_FILE: %s holds no certificate in PEM form", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("KAFKA_CERT_FILE and KAFKA_KEY_FILE: set both or neither")
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_CERT_FILE and KAFKA_KEY_FILE: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// dialFunc opens a connection to a broker, over TLS where c says so. It is the one dialer of both client libraries.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (c Config) dialer() (dialFunc, error) {
	d := &net.Dialer{Timeout: netTimeout, KeepAlive: 30 * time.Second}
	if !c.TLS {
		return d.DialContext, nil
	}
	t, err := c.tls()
	if err != nil {
		return nil, err
	}
	return (&tls.Dialer{NetDialer: d, Config: t}).DialContext, nil
}

// mechanism is c's SASL for kafka-go; nil for none.
func (c Config) mechanism() (sasl.Mechanism, error) {
	switch c.SASL {
	case "plain":
		return saslplain.Mechanism{Username: c.Username, Password: string(c.Password)}, nil
	case "scram-sha-256":
		return saslscram.Mechanism(saslscram.SHA256, c.Username, string(c.Password))
	case "scram-sha-512":
		return saslscram.Mechanism(saslscram.SHA512, c.Username, string(c.Password))
	}
	return nil, nil
}

// options configures franz-go as dialer and mechanism configure kafka-go.
func (c Config) options(dial dialFunc) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.ClientID(clientID), kgo.Dialer(dial),
		// Whoever calls retries, with a back-off that can be seen.
		kgo.RequestRetries(2), kgo.RetryTimeout(netTimeout),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
	switch c.SASL {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.Username, Pass: string(c.Password)}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.Username, Pass: string(c.Password)}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: c.Username, Pass: string(c.Password)}.AsSha512Mechanism()))
	}
	return opts
}
