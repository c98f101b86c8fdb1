package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	random "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
	n    int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), n: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key, a.file = key, filepath.Join(a.dir, "ca.pem")
	a.write(a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// sign makes a certificate for 127.0.0.1 or for a client, and returns the files of certificate and key.
func (a *authority) sign(name string) (cert, key string) {
	a.t.Helper()
	a.n++
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	a.write(cert, "CERTIFICATE", der)
	a.write(key, "PRIVATE KEY", encoded)
	return cert, key
}

// secured is an Apache Kafka that wants to know who asks.
type secured struct {
	t           *testing.T
	classes     string
	plain       string // listener of the operator who sets rights; nobody else uses it
	scram, mtls string // addresses
}

// startSecured starts a broker with listeners for SCRAM over TLS and for mutual TLS, which refuses whatever no ACL allows.
func startSecured(t *testing.T, ca *authority) *secured {
	t.Helper()
	classes, err := filepath.Glob(filepath.Join(kafkaLibraries(t), "kafka-clients-*.jar"))
	if err != nil || len(classes) != 1 {
		t.Fatalf("no Kafka beside scripts/real's: %v, %v", classes, err)
	}
	s := &secured{t: t, classes: filepath.Join(filepath.Dir(classes[0]), "*")}
	address := freeAddresses(t, 4)
	s.plain, s.scram, s.mtls = address[0], address[2], address[3]
	dir := t.TempDir()
	cert, key := ca.sign("broker")
	store := filepath.Join(dir, "broker.pem")
	if err := os.WriteFile(store, append(read(t, key), read(t, cert)...), 0o600); err != nil {
		t.Fatal(err)
	}
	properties := filepath.Join(dir, "server.properties")
	text := fmt.Sprintf(`process.roles=broker,controller
node.id=1
listeners=PLAIN://%[1]s,CONTROLLER://%[2]s,SCRAM://%[3]s,MTLS://%[4]s
advertised.listeners=PLAIN://%[1]s,SCRAM://%[3]s,MTLS://%[4]s
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MTLS:SSL
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
controller.quorum.voters=1@%[2]s
log.dirs=%[5]s
ssl.keystore.type=PEM
ssl.keystore.location=%[6]s
ssl.truststore.type=PEM
ssl.truststore.location=%[7]s
listener.name.mtls.ssl.client.auth=required
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.scram.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
num.network.threads=2
num.io.threads=2
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=2097152
`, address[0], address[1], address[2], address[3], filepath.Join(dir, "data"), store, ca.file)
	if err := os.WriteFile(properties, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.java("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", properties,
		"--add-scram", "SCRAM-SHA-256=[name=tempismo,password=right]", "--add-scram", "SCRAM-SHA-512=[name=tempismo,password=right]",
		"--add-scram", "SCRAM-SHA-256=[name=stranger,password=right]")
	log, err := os.Create(filepath.Join(dir, "broker.log"))
	if err != nil {
		t.Fatal(err)
	}
	broker := exec.Command("java", "-Xms256m", "-Xmx512m", "-Dlog4j2.configurationFile=../../deployments/kafka/log4j2.properties", "-cp", s.classes, "kafka.Kafka", properties)
	broker.Stdout, broker.Stderr = log, log
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Process.Kill()
		broker.Wait()
		log.Close()
		if t.Failed() {
			t.Logf("the broker's log:\n%s", read(t, log.Name()))
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if _, _, code := tempismo(t, "topics", "--kafka-brokers", s.plain, "--json"); code == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the broker does not come up")
		}
	}
	return s
}

// freeAddresses finds addresses with ports in a row that nobody listens on, below those that the system gives out by itself.
func freeAddresses(t *testing.T, n int) (all []string) {
	t.Helper()
	for range 100 {
		all = nil
		base := 15000 + random.IntN(17000)
		for i := range n {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+i))
			if err != nil {
				break
			}
			ln.Close()
			all = append(all, ln.Addr().String())
		}
		if len(all) == n {
			return all
		}
	}
	t.Fatalf("no %d free ports in a row", n)
	return nil
}

// kafkaLibraries is where deployments/kafka/brokers keeps Kafka.
func kafkaLibraries(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("KAFKA_LIBS"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(cache, "tempismo", "kafka-*"))
	if err != nil || len(dirs) == 0 {
		t.Skip("needs Kafka without Docker: deployments/kafka/brokers fetches it")
	}
	return dirs[len(dirs)-1]
}

func (s *secured) java(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("java", append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", s.classes}, args...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// allow gives the rights that docs/operations.md names, by the commands that stand there.
func (s *secured) allow(principals ...string) {
	s.t.Helper()
	_, text, _ := strings.Cut(string(read(s.t, "../../docs/operations.md")), "<!-- rights -->")
	text, _, _ = strings.Cut(text, "<!-- /rights -->")
	text = strings.ReplaceAll(text, "\\\n", " ")
	n := 0
	for line := range strings.Lines(text) {
		args := strings.Fields(line)
		if len(args) == 0 || args[0] != "kafka-acls.sh" {
			continue
		}
		n++
		command := []string{"org.apache.kafka.tools.AclCommand"}
		for _, a := range args[1:] {
			switch a {
			case "broker:9092":
				command = append(command, s.plain)
			case "User:tempismo":
				command = append(command, principals[0])
				for _, p := range principals[1:] {
					command = append(command, "--allow-principal", p)
				}
			default:
				command = append(command, a)
			}
		}
		s.java(command...)
	}
	if n < 2 {
		s.t.Fatalf("docs/operations.md has %d commands that give rights", n)
	}
}

// A whole system works over SCRAM with TLS and over mutual TLS, with the rights that the documentation names and no others,
// and whoever is refused is told what to do.
func TestRealTLSAndSCRAM(t *testing.T) {
	_, store := onRealOnes(t)
	alone(t)
	ca := newAuthority(t, "authority")
	cert, key := ca.sign("client")
	foreign := newAuthority(t, "another")
	theirs, theirKey := foreign.sign("client")
	s := startSecured(t, ca)
	s.allow("User:tempismo", "User:CN=client")

	user := func(sasl, name, password string) []string {
		return []string{"--kafka-brokers", s.scram, "--kafka-tls", "--kafka-ca-file", ca.file, "--kafka-sasl", sasl, "--kafka-username", name, "--kafka-password", password}
	}
	mutual := func(ca, cert, key string) []string {
		return []string{"--kafka-brokers", s.mtls, "--kafka-tls", "--kafka-ca-file", ca, "--kafka-cert-file", cert, "--kafka-key-file", key}
	}
	file, dir := readers(t, 12, 40), t.TempDir()
	id := fmt.Sprintf("tls-%d", time.Now().UnixNano())
	here := summarised(t, must(t, importArgs(file, "--data", dir, "--run", id)...))
	profiles := must(t, "dump", "profiles", "--data", dir)
	for i, where := range [][]string{user("scram-sha-256", "tempismo", "right"), user("scram-sha-512", "tempismo", "right"), mutual(ca.file, cert, key)} {
		where = append(where, "--redis-addr", store, "--run", fmt.Sprintf("%s-%d", id, i))
		there := summarised(t, must(t, importArgs(file, where...)...))
		if fmt.Sprint(here) != fmt.Sprint(there) {
			t.Errorf("%v: embedded %+v, here %+v", where, here, there)
		}
		if must(t, append([]string{"dump", "profiles"}, where...)...) != profiles {
			t.Errorf("%v: profiles differ from those of the embedded pair", where)
		}
	}

	for name, c := range map[string]struct {
		where []string
		says  string
	}{
		"a wrong password":                {user("scram-sha-256", "tempismo", "wrong"), "check KAFKA_USERNAME, KAFKA_PASSWORD"},
		"nobody whom the brokers know":    {user("scram-sha-512", "nobody", "right"), "check KAFKA_USERNAME, KAFKA_PASSWORD"},
		"a mechanism that is not offered": {user("plain", "tempismo", "right"), "choose a mechanism that they offer"},
		"another authority":               {mutual(foreign.file, cert, key), "name its PEM file with KAFKA_CA_FILE"},
		"a foreign certificate":           {mutual(ca.file, theirs, theirKey), "signed by an authority that they trust"},
		"no certificate":                  {[]string{"--kafka-brokers", s.mtls, "--kafka-tls", "--kafka-ca-file", ca.file}, "set KAFKA_CERT_FILE and KAFKA_KEY_FILE"},
		"no TLS":                          {[]string{"--kafka-brokers", s.mtls}, "set KAFKA_TLS=true"},
		"TLS where there is none":         {[]string{"--kafka-brokers", s.plain, "--kafka-tls", "--kafka-ca-file", ca.file}, "does not speak TLS"},
		"a user without rights":           {user("scram-sha-256", "stranger", "right"), "docs/operations.md"},
	} {
		_, errs, code := tempismo(t, append([]string{"topics", "list"}, c.where...)...)
		if code != 1 || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit code %d, %s", name, code, errs)
		}
	}
}
