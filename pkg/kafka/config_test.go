package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/twmb/franz-go/pkg/kfake"
)

func TestConfigIsReadFromTheEnvironmentAndItsProblemsAreAllTold(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "password")
	garbage := filepath.Join(dir, "garbage.pem")
	for _, f := range []string{secret, garbage} {
		if err := os.WriteFile(f, []byte("hush\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type env map[string]string
	for _, c := range []struct {
		name string
		env  env
		want Config
		errs []string
	}{
		{"without anything it is the broker of this machine", env{}, Config{Brokers: []string{"127.0.0.1:9092"}}, nil},
		{"several brokers are separated by commas", env{"KAFKA_BROKERS": "a:1,b:2"}, Config{Brokers: []string{"a:1", "b:2"}}, nil},
		{"a password may stand in a file", env{"KAFKA_SASL": "plain", "KAFKA_USERNAME": "u", "KAFKA_PASSWORD_FILE": secret},
			Config{Brokers: []string{"127.0.0.1:9092"}, SASL: "plain", Username: "u", Password: "hush"}, nil},
		{"a broker needs a host and a port, and SASL a password", env{"KAFKA_BROKERS": "a,:2,c:x", "KAFKA_SASL": "scram-sha-256", "KAFKA_USERNAME": "u"}, Config{},
			[]string{`"a"`, `":2"`, `"c:x"`, "KAFKA_PASSWORD"}},
		{"an unknown mechanism is named", env{"KAFKA_SASL": "gssapi"}, Config{}, []string{"gssapi"}},
		{"a password without a mechanism would never be used", env{"KAFKA_PASSWORD": "x"}, Config{}, []string{"KAFKA_SASL"}},
		{"certificates without TLS would never be used", env{"KAFKA_CA_FILE": garbage}, Config{}, []string{"KAFKA_TLS"}},
		{"a file without a certificate is named", env{"KAFKA_TLS": "true", "KAFKA_CA_FILE": garbage}, Config{}, []string{"garbage.pem"}},
		{"a certificate needs its key", env{"KAFKA_TLS": "true", "KAFKA_CERT_FILE": garbage}, Config{}, []string{"KAFKA_KEY_FILE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got struct {
				Kafka Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
			}
			err := config.Parse(&got, "test", nil, func(name string) (string, bool) {
				v, ok := c.env[name]
				return v, ok
			})
			if len(c.errs) == 0 && (err != nil || fmt.Sprintf("%#v%q", got.Kafka, string(got.Kafka.Password)) != fmt.Sprintf("%#v%q", c.want, string(c.want.Password))) {
				t.Errorf("%+v, %v; want %+v", got.Kafka, err, c.want)
			}
			for _, part := range c.errs {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not name %s", err, part)
				}
			}
		})
	}
}

// certificate writes a self-signed certificate for 127.0.0.1 and its key as PEM files.
func certificate(t *testing.T) (certFile, keyFile string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile = write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", private)
	if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, pair
}

func TestSecuredBrokers(t *testing.T) {
	certFile, keyFile, pair := certificate(t)
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", mechanism, secure), func(t *testing.T) {
				opts := []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "user", "right")}
				if secure {
					opts = append(opts, kfake.TLS(server))
				}
				_, c := cluster(t, opts...)
				c.SASL, c.Username, c.Password = mechanism, "user", "right"
				if secure {
					c.TLS, c.CAFile, c.CertFile, c.KeyFile = true, certFile, certFile, keyFile
				}
				// Each kind of connection once: administration, group, produce, fetch.
				l := open(t, c)
				topic := create(t, l, "", 1)
				if err := writer(t, l, stream.Run{ID: "r1"}).Write(t.Context(), topic, nil, []byte("x"), time.Time{}); err != nil {
					t.Fatal(err)
				}
				if got := values(t, l, topic, 0); len(got) != 1 {
					t.Errorf("%q", got)
				}
				ctx, cancel := context.WithCancel(within(t, time.Minute))
				if err := l.Consume(ctx, "g", topic, func(ctx context.Context, a stream.Assignment) {
					if err := a.Confirm(ctx); err != nil {
						t.Error(err)
					}
					cancel()
					<-ctx.Done()
				}); err != nil {
					t.Error(err)
				}
				wrong := c
				wrong.Password = "wrong"
				if l, err := Open(within(t, 20*time.Second), wrong); err == nil {
					l.Close()
					t.Error("a wrong password opens it")
				}
				if secure {
					wrong = c
					wrong.CAFile, wrong.CertFile, wrong.KeyFile = "", "", ""
					if l, err := Open(within(t, 20*time.Second), wrong); err == nil {
						l.Close()
						t.Error("a certificate that nobody knows is taken")
					}
				}
			})
		}
	}
}
