// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestToIPNet(t *testing.T) {
	for _, want := range []string{"10.77.0.254/24", "0.0.0.0/0", "10.66.10.5/32"} {
		if got := toIPNet(netip.MustParsePrefix(want)).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSwitchOff(t *testing.T) {
	dir := t.TempDir()
	if err := switchOff(filepath.Join(dir, "none", "parameter")); err != nil {
		t.Errorf("a parameter that this kernel lacks: %v", err)
	}
	file := filepath.Join(dir, "parameter")
	if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := switchOff(file); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "0" {
		t.Errorf("got %q", got)
	}
	if err := switchOff(dir); err == nil {
		t.Error("a parameter that cannot be written is no error")
	}
}
