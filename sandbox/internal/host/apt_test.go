// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeApt puts a program in the place of apt-get that notes what it is asked for
// and knows these mirrors.
func fakeApt(t *testing.T, mirrors, whenInstalling string) (asked func() []string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
echo "${DEBIAN_FRONTEND:-plainly} $1" >>%[1]s/asked
case "$1" in
indextargets) printf '%%s' '%[2]s' ;;
install) %[3]s ;;
esac
`, dir, mirrors, whenInstalling)
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		content, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil {
			return nil
		}
		return strings.Split(strings.TrimSpace(string(content)), "\n")
	}
}

// withPackages changes what the sandbox needs of the machine.
func withPackages(t *testing.T, packages map[string]string) {
	t.Helper()
	ordinary := Packages
	Packages = packages
	t.Cleanup(func() { Packages = ordinary })
}

func TestEnsurePackages(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "mmdebstrap")
	for _, tt := range []struct {
		name     string
		packages map[string]string
		mirrors  string
		asked    []string
		said     []string
	}{
		{
			"everything is there", map[string]string{"coreutils": "/bin/sh"}, "http://mirror.example/debian",
			[]string{"plainly indextargets"}, nil,
		},
		{
			"the lists are missing", map[string]string{"coreutils": "/bin/sh"}, "",
			[]string{"plainly indextargets", "noninteractive update"}, []string{"asking this machine's Debian mirrors what they have"},
		},
		{
			"a package is missing", map[string]string{"mmdebstrap": missing, "coreutils": "/bin/sh"}, "http://mirror.example/debian",
			[]string{"noninteractive update", "noninteractive install"},
			[]string{"asking this machine's Debian mirrors what they have", "installing on this machine: mmdebstrap"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withPackages(t, tt.packages)
			asked := fakeApt(t, tt.mirrors, "true")
			var said []string
			say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
			t.Setenv("DEBIAN_FRONTEND", "")
			if err := EnsurePackages(context.Background(), say); err != nil {
				t.Fatal(err)
			}
			if got := asked(); !slices.Equal(got, tt.asked) {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
			if !slices.Equal(said, tt.said) {
				t.Errorf("said %q, want %q", said, tt.said)
			}
		})
	}
}

func TestEnsurePackagesShowsTheEndOfAptsWords(t *testing.T) {
	withPackages(t, map[string]string{"mmdebstrap": filepath.Join(t.TempDir(), "none")})
	fakeApt(t, "x", `echo "Reading package lists..."; echo "E: Unable to locate package mmdebstrap" >&2; exit 100`)
	err := EnsurePackages(context.Background(), func(string, ...any) {})
	if err == nil || !strings.Contains(err.Error(), "apt-get install --yes --no-install-recommends mmdebstrap: exit status 100") ||
		!strings.HasSuffix(err.Error(), "E: Unable to locate package mmdebstrap") {
		t.Errorf("got %v", err)
	}
}
