package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPseudonymsAreTold: one line for each key, as ingest makes them, and no key is needed on the command line.
func TestPseudonymsAreTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("another-key-of-some-length\na-secret-of-some-length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PSEUDONYM_KEY_FILE", file)
	out, errs, code := tempismo(t, "pseudonym", "C-00042")
	// printf %s C-00042 | openssl dgst -sha256 -hmac a-secret-of-some-length
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 || lines[1] != "a2db9b7ee75ed4bb3653f333b7283321" || lines[0] == lines[1] {
		t.Errorf("exit %d: %q %s", code, out, errs)
	}
	out, _, code = tempismo(t, "pseudonym", "C-00042", "--json")
	if code != 0 || strings.Join(strings.Fields(out), "") != `{"pseudonyms":["`+lines[0]+`","`+lines[1]+`"]}` {
		t.Errorf("exit %d: %s", code, out)
	}
	os.Unsetenv("PSEUDONYM_KEY_FILE") // Setenv has it restored
	if _, errs, code = tempismo(t, "pseudonym", "C-00042"); code != 2 || !strings.Contains(errs, "PSEUDONYM_KEY: is not set") {
		t.Errorf("without a key: exit %d: %s", code, errs)
	}
}
