// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
)

func TestWhichAddressesAreRefused(t *testing.T) {
	network := Network{field: "image"}
	for _, text := range []string{"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "10.96.0.0/12"} {
		network.Refused = append(network.Refused, netip.MustParsePrefix(text))
	}
	for address, refused := range map[string]bool{
		"127.0.0.1:80":                  true,
		"[::1]:80":                      true,
		"[::ffff:127.0.0.1]:80":         true,
		"0.0.0.0:80":                    true,
		"[::]:80":                       true,
		"[::ffff:0.0.0.0]:80":           true,
		"169.254.169.254:80":            true,
		"[::ffff:169.254.169.254]:80":   true,
		"[64:ff9b::169.254.169.254]:80": true,
		"[64:ff9b::192.0.2.1]:80":       false,
		"[fe80::1%eth0]:80":             true,
		"10.96.0.1:443":                 true,
		"10.95.0.1:443":                 false,
		"192.0.2.1:443":                 false,
		"[2001:db8::1]:443":             false,
	} {
		err := network.checkAddress("tcp", address, nil)
		if refused {
			wantError(t, err, "SourceUnreachable", true, "image", "not imported from the network")
		} else if err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := network.checkAddress("tcp", "no address", nil); err == nil {
		t.Error("what is no address is connected to")
	}
}

// A name that resolves to a refused address and a redirect there are refused
// when they are connected to, not when they are read.
func TestRefusedBehindARedirect(t *testing.T) {
	inner := start(t, serve)
	outer := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner.URL, http.StatusFound)
	})
	outer.RefusedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	if _, _, err := read(t, outer); err != nil {
		t.Fatalf("not refused at all: %v", err)
	}
	outer.RefusedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, url := range []string{outer.URL, "http://localhost/disk.img", "http://0.0.0.0/disk.img", "http://0/disk.img", "http://[::ffff:127.0.0.1]/disk.img"} {
		outer.URL = url
		_, _, err := read(t, outer)
		var typed *Error
		if !errors.As(err, &typed) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestContentEncoding(t *testing.T) {
	for _, tc := range []struct {
		encoding, path string
		verified       bool
		accepted       bool
	}{
		{"", "/disk.img", true, true},
		{"identity", "/disk.img", true, true},
		{"gzip", "/disk.img.gz", true, true},
		{"x-gzip", "/disk.img.gz", false, true},
		{"zstd", "/disk.img.zst", true, true},
		{"gzip", "/disk.img", false, true},
		{"gzip", "/disk.img", true, false},
		{"GZIP", "/disk.img", true, false},
		{"br", "/disk.img", false, false},
		{"deflate", "/disk.img.gz", false, false},
		{"gzip, br", "/disk.img.gz", false, false},
	} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			options := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", tc.encoding)
				_, _ = w.Write(content)
			})
			options.URL = options.URL[:len(options.URL)-len("/disk.img")] + tc.path
			options.Verified = tc.verified
			got, _, err := read(t, options)
			if tc.accepted {
				wantContent(t, got, err)
			} else {
				wantError(t, err, "SourceUnreachable", true, "url", "encoding")
			}
		})
	}
}
