// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hold listens at an address until the test ends, as another sandbox does.
func hold(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
}

func ensure(t *testing.T, file string, served bool) Addresses {
	t.Helper()
	addresses, err := Ensure(file, served)
	if err != nil {
		t.Fatal(err)
	}
	return addresses
}

func TestTwoSandboxesHavePortsOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	one := ensure(t, filepath.Join(dir, "one.json"), false)
	seen := map[string]bool{}
	for _, address := range []string{one.Metrics, one.Admission, one.Registry} {
		if host, _, err := net.SplitHostPort(address); err != nil || host != "127.0.0.1" || seen[address] {
			t.Errorf("%s: %v, twice = %v", address, err, seen[address])
		}
		seen[address] = true
	}
	// One port that is taken is enough.
	hold(t, one.Admission)
	other := ensure(t, filepath.Join(dir, "other.json"), false)
	for _, address := range []string{other.Metrics, other.Admission, other.Registry} {
		if seen[address] {
			t.Errorf("both sandboxes have %s", address)
		}
	}
}

func TestPortsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	first := ensure(t, file, false)
	if again := ensure(t, file, false); again != first {
		t.Errorf("%v became %v", first, again)
	}
	if loaded, err := Load(file); err != nil || loaded != first {
		t.Errorf("loaded %v, %v, want %v", loaded, err, first)
	}
	hold(t, first.Registry)
	if served := ensure(t, file, true); served != first {
		t.Errorf("%v became %v although ours serves there", first, served)
	}
	moved := ensure(t, file, false)
	if moved == first {
		t.Errorf("%v is somebody else's", first)
	}
	if loaded, err := Load(file); err != nil || loaded != moved {
		t.Errorf("loaded %v, %v, want %v", loaded, err, moved)
	}
}

func TestPortsThatCannotBeLoaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	if _, err := Load(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, load := range map[string]func() (Addresses, error){
		"load":   func() (Addresses, error) { return Load(file) },
		"ensure": func() (Addresses, error) { return Ensure(file, false) },
	} {
		if _, err := load(); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Ensure(filepath.Join(file, "below"), false); err == nil {
		t.Error("kept below a file")
	}
}
