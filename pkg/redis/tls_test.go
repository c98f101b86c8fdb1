package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tempismo/tempismo/pkg/stream"
)

// papers are files in PEM format: an authority, and what it certifies for 127.0.0.1.
type papers struct{ ca, cert, key string }

func issue(t *testing.T) papers {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		return key, der
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, caDER := sign(ca, ca, nil)
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}} // servers of a cluster are clients of each other
	key, der := sign(server, ca, caKey)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return papers{write("ca.pem", "CERTIFICATE", caDER), write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)}
}

// args are those of a server that speaks TLS only.
func (p papers) args(port int) []string {
	return []string{"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-cert-file", p.cert, "--tls-key-file", p.key, "--tls-ca-cert-file", p.ca, "--tls-auth-clients", "no"}
}

const (
	testPassword  = "hunter2"
	adminPassword = "correcthorse"
)

// documentedUser is what docs/operations.md has an operator say to Redis, word by word.
func documentedUser(t *testing.T) []any {
	t.Helper()
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)<!-- redis rights -->\n```\n(.*?)```\n<!-- /redis rights -->").FindSubmatch(b)
	if found == nil {
		t.Fatal("docs/operations.md does not say which rights the user needs")
	}
	line := strings.ReplaceAll(string(found[1]), "\\\n", " ")
	if !strings.Contains(line, ">PASSWORD") || !strings.HasPrefix(line, "ACL SETUSER tempismo ") {
		t.Fatalf("docs/operations.md: %s", line)
	}
	var words []any
	for _, w := range strings.Fields(strings.Replace(line, ">PASSWORD", ">"+testPassword, 1)) {
		words = append(words, w)
	}
	return words
}

// TestRealTLSAndACL runs everything that a Store does over TLS, as a user who may do what docs/operations.md says and no more.
func TestRealTLSAndACL(t *testing.T) {
	ours(t)
	p, port := issue(t), freePorts(t, 1)[0]
	server := serve(t, port, append(p.args(port), "--user", "default", "on", ">"+adminPassword, "~*", "&*", "+@all")...)
	admin := Config{Addr: server.addr, Username: "default", Password: adminPassword, TLS: true, CAFile: p.ca}
	boss := open(t, admin).single
	if err := boss.Do(t.Context(), documentedUser(t)...).Err(); err != nil {
		t.Fatal(err)
	}
	right := Config{Addr: server.addr, Username: "tempismo", Password: testPassword, TLS: true, CAFile: p.ca}
	suite(t, right, admin)

	s := open(t, right)
	if u := s.Unchecked(); len(u) > 0 {
		t.Errorf("rights are missing to check: %q", u)
	}
	if servers, err := s.Servers(t.Context(), "appendonly"); err != nil || !servers[0].Clock || servers[0].Info["redis_version"] == "" || servers[0].Settings["appendonly"] != "no" {
		t.Errorf("rights are missing to ask the server: %+v, %v", servers, err)
	}
	if _, err := s.Claim(t.Context(), "strange", 0); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("a claim of what is not Tempismo's: %v", err)
	}
	for _, forbidden := range [][]any{{"flushall"}, {"keys", "*"}, {"config", "set", "maxmemory", "1"}, {"del", "{sim.a.b.0}:meta"}, {"get", "else"}, {"acl", "list"}} {
		if err := s.single.Do(t.Context(), forbidden...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want it forbidden", forbidden, err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		wrong  string
	}{
		{"a wrong password", func(c *Config) { c.Password = "guess" }, "WRONGPASS"},
		{"an authority that is not trusted", func(c *Config) { c.CAFile = "" }, "certificate"},
		{"a server that is another one by its certificate", func(c *Config) { c.Addr = strings.Replace(c.Addr, "127.0.0.1", "localhost", 1) }, "certificate"},
		{"a client that does not speak TLS", func(c *Config) { c.TLS, c.CAFile = false, "" }, "REDIS_TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := right
			c.change(&config)
			s, err := Open(t.Context(), config)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), testPassword) {
				t.Errorf("got %v, want %s", err, c.wrong)
			}
		})
	}
	t.Run("a user who may not use transactions", func(t *testing.T) {
		if err := boss.Do(t.Context(), "acl", "setuser", "tempismo", "-multi").Err(); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), right); err == nil || !strings.Contains(err.Error(), "allow the user multi, exec and watch") {
			t.Errorf("got %v, %v", s, err)
		}
	})
}

// TestRealClusterOverTLS: the servers of a cluster name each other by address, and each must prove to be the one dialled.
func TestRealClusterOverTLS(t *testing.T) {
	ours(t)
	p := issue(t)
	c := startClusterWith(t, 0, func(port int) []string {
		return append(p.args(port), "--tls-cluster", "yes", "--tls-replication", "yes")
	}, func(o *goredis.Options) {
		config, err := (Config{CAFile: p.ca, TLS: true}).tls()
		if err != nil {
			t.Fatal(err)
		}
		o.TLSConfig = config
	})
	for _, r := range c.admin {
		if err := r.Do(t.Context(), documentedUser(t)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Config{Addr: c.addrs(), Username: "tempismo", Password: testPassword, TLS: true, CAFile: p.ca})
	for partition := range int32(8) {
		l, err := s.Claim(t.Context(), "tempismo.r1.profiler", partition)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Commit(t.Context(), &stream.Commit{Next: map[string]int64{"in": 1}, Partitions: 8}); err != nil {
			t.Error(err)
		}
		l.Close()
	}
}
