// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestLeaseNameRoundTrip(t *testing.T) {
	tests := map[string]string{
		"10.66.10.5":         "ip-10-66-10-5",
		"0.0.0.0":            "ip-0-0-0-0",
		"255.255.255.255":    "ip-255-255-255-255",
		"::ffff:10.66.10.5":  "ip-10-66-10-5",
		"fd00::5":            "ip-fd00-0000-0000-0000-0000-0000-0000-0005",
		"FD00:0:0:1::ABCD":   "ip-fd00-0000-0000-0001-0000-0000-0000-abcd",
		"fe80::1%eth0":       "ip-fe80-0000-0000-0000-0000-0000-0000-0001",
		"2001:db8::ff00:42:": "",
	}
	for text, want := range tests {
		address, err := netip.ParseAddr(text)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		got := LeaseName(address)
		if got != want {
			t.Errorf("LeaseName(%s) = %q, want %q", text, got, want)
		}
		back, err := ParseLeaseName(got)
		if err != nil || back != address.Unmap().WithZone("") {
			t.Errorf("ParseLeaseName(%q) = %s, %v; want %s", got, back, err, address)
		}
	}
}

func TestClaimNameFollowsTheMachine(t *testing.T) {
	if got := ClaimName("web", "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"); got != "web-7d3d1557" {
		t.Errorf("got %s", got)
	}
	if ClaimName("web", "a") == ClaimName("web", "b") {
		t.Error("a machine that was made again has the claim of the old one")
	}
}

func TestParseLeaseNameRefusesOtherSpellings(t *testing.T) {
	for _, name := range []string{
		"", "ip-", "10-66-10-5", "ip-10-66-10", "ip-10-66-10-5-6", "ip-010-66-10-5", "ip-10-66-10-256",
		"ip-fd00-0-0-0-0-0-0-5", "ip-FD00-0000-0000-0000-0000-0000-0000-0005",
		"ip-0000-0000-0000-0000-0000-ffff-0a42-0a05", "lease-10-66-10-5", "ip-10.66.10.5",
	} {
		if got, err := ParseLeaseName(name); err == nil {
			t.Errorf("ParseLeaseName(%q) = %s, want an error", name, got)
		} else if !strings.Contains(err.Error(), "does not encode an address") {
			t.Errorf("ParseLeaseName(%q): unclear error %v", name, err)
		}
	}
}

func TestNewPoolRefusesBadRanges(t *testing.T) {
	tests := map[string][]string{
		`virtualMachineCIDRs[0] "10.66.10.0" is no range`:          {"10.66.10.0"},
		`virtualMachineCIDRs[1] "abc" is no range`:                 {"10.66.10.0/24", "abc"},
		"virtualMachineCIDRs[1] 10.66.10.128/25 overlaps 10.66.10": {"10.66.10.0/24", "10.66.10.128/25"},
	}
	for want, cidrs := range tests {
		if _, err := NewPool(cidrs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewPool(%q): got %v, want %q", cidrs, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	pool := mustPool(t, "10.66.10.0/24", "10.66.20.8/31", "10.66.30.1/32", "fd00::/120")
	tests := map[string]string{
		"10.66.10.1":   "",
		"10.66.10.254": "",
		"10.66.10.0":   "10.66.10.0 is the address of the network 10.66.10.0/24 itself",
		"10.66.10.255": "10.66.10.255 is the broadcast address of 10.66.10.0/24",
		"10.66.11.1":   "10.66.11.1 is outside the ranges 10.66.10.0/24, 10.66.20.8/31, 10.66.30.1/32, fd00::/120",
		"10.66.20.8":   "",
		"10.66.20.9":   "",
		"10.66.30.1":   "",
		"fd00::1":      "",
		"fd00::":       "fd00:: is the address of the network fd00::/120 itself",
	}
	for text, want := range tests {
		err := pool.Check(netip.MustParseAddr(text))
		if got := errorText(err); got != want {
			t.Errorf("Check(%s) = %q, want %q", text, got, want)
		}
	}
	if err := (Pool{}).Check(netip.MustParseAddr("10.66.10.1")); !errors.Is(err, ErrNoRanges) {
		t.Errorf("the empty pool: got %v", err)
	}
}

func mustPool(t *testing.T, cidrs ...string) Pool {
	t.Helper()
	pool, err := NewPool(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
