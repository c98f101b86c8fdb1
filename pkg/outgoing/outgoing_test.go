package outgoing

import (
	"errors"
	"testing"
	"time"
)

func TestGuard(t *testing.T) {
	rows := []struct {
		name, address    string
		public, loopback bool
	}{
		{"a public address", "93.184.216.34:443", true, false},
		{"a public address in IPv6", "[2606:2800:220:1::1]:443", true, false},
		{"this machine", "127.0.0.1:80", false, true},
		{"this machine by another name", "127.9.8.7:80", false, true},
		{"this machine in IPv6", "[::1]:80", false, true},
		{"this machine, IPv4 in IPv6", "[::ffff:127.0.0.1]:80", false, true},
		{"no address", "0.0.0.0:80", false, false},
		{"no address in IPv6", "[::]:80", false, false},
		{"a private network", "10.1.2.3:80", false, false},
		{"another private network", "192.168.0.1:80", false, false},
		{"a private network, IPv4 in IPv6", "[::ffff:172.16.0.1]:80", false, false},
		{"a private network in IPv6", "[fd00::1]:80", false, false},
		{"a cloud's metadata service", "169.254.169.254:80", false, false},
		{"link-local with a zone", "[fe80::1%eth0]:80", false, false},
		{"carrier-grade NAT", "100.64.0.1:80", false, false},
		{"NAT64 of a private address", "[64:ff9b::a00:1]:80", false, false},
		{"6to4 of a private address", "[2002:a00:1::]:80", false, false},
		{"multicast", "224.0.0.1:80", false, false},
		{"broadcast", "255.255.255.255:80", false, false},
		{"a name that was not resolved", "example.com:80", false, false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if err := Public("WEBHOOK_ALLOW_PRIVATE")(r.address); (err == nil) != r.public || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("public: %v", err)
			}
			if err := Loopback(r.address); (err == nil) != r.loopback || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("loopback: %v", err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
	rows := []struct {
		name, header string
		want         time.Duration
	}{
		{"seconds", "120", 2 * time.Minute},
		{"a date", "Thu, 03 Dec 2026 09:05:00 GMT", 5 * time.Minute},
		{"a date that has passed", "Thu, 03 Dec 2026 08:05:00 GMT", 0},
		{"a negative number", "-5", 0},
		{"nonsense", "soon", 0},
		{"nothing", "", 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := RetryAfter(r.header, now); got != r.want {
				t.Errorf("got %v, want %v", got, r.want)
			}
		})
	}
}
