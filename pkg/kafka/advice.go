package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// advice says what to do about a connection that does not come about.
func (c Config) advice(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "the brokers refuse the user: check KAFKA_USERNAME, KAFKA_PASSWORD (or KAFKA_PASSWORD_FILE) and the mechanism in KAFKA_SASL"
	case errors.Is(err, kerr.UnsupportedSaslMechanism), strings.Contains(err.Error(), kerr.UnsupportedSaslMechanism.Message):
		return "the brokers do not offer KAFKA_SASL=" + c.SASL + " on this port: choose a mechanism that they offer"
	case errors.As(err, &unknown):
		return "the brokers' certificate is signed by an authority that is not known here: name its PEM file with KAFKA_CA_FILE"
	case errors.As(err, &host):
		return "the brokers' certificate is made out to another name: use the name that stands in it in KAFKA_BROKERS and in the brokers' advertised.listeners"
	case errors.As(err, &invalid):
		return "the brokers' certificate is not valid: renew it, or correct this machine's clock"
	case errors.As(err, &record), c.TLS && strings.Contains(err.Error(), "is TLS misconfigured"): // the client library's guess has no type
		return "the port does not speak TLS: take the brokers' TLS port, or unset KAFKA_TLS"
	case strings.Contains(err.Error(), "remote error: tls:"): // the alert has no type of its own
		if c.CertFile == "" {
			return "the brokers want a certificate of the client: set KAFKA_CERT_FILE and KAFKA_KEY_FILE"
		}
		return "the brokers refuse the client's certificate: check that KAFKA_CERT_FILE is signed by an authority that they trust, and is not out of date"
	case !c.TLS && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "TLS")):
		return "the brokers hang up: if the port speaks TLS set KAFKA_TLS=true, if it wants a password set KAFKA_SASL"
	}
	return "check KAFKA_BROKERS, KAFKA_TLS and KAFKA_SASL"
}

// denied adds to an error of authorization which right is missing.
func denied(err error) error {
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.GroupAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
		return errors.Join(err, errors.New("give the user the rights that docs/operations.md lists under Kafka"))
	}
	return err
}
