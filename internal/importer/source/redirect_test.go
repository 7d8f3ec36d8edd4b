// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestRedirects(t *testing.T) {
	for _, tc := range []struct {
		redirects int
		accepted  bool
	}{{1, true}, {10, true}, {11, false}, {1 << 30, false}} {
		t.Run(fmt.Sprint(tc.redirects), func(t *testing.T) {
			left := tc.redirects
			got, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
				if left--; left >= 0 {
					http.Redirect(w, r, "/disk.img", http.StatusFound)
					return
				}
				serve(w, r)
			}))
			if tc.accepted {
				wantContent(t, got, err)
			} else {
				wantError(t, err, "SourceUnreachable", true, "url", "more than 10 times")
			}
		})
	}
}

func TestRedirectToNowhere(t *testing.T) {
	for location, message := range map[string]string{
		"ftp://mirror.example/disk.img": `"ftp"`,
		"file:///etc/shadow":            `"file"`,
	} {
		_, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		}))
		wantError(t, err, "SourceUnreachable", true, "url", message)
	}
}

// Credentials must not follow to another origin: another host, another port of
// the same host, another scheme.
func TestRedirectsKeepCredentialsAtTheirOrigin(t *testing.T) {
	var elsewhere http.Header
	other := start(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere = r.Header.Clone()
		serve(w, r)
	})
	origin := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "session=hunter2")
		http.Redirect(w, r, other.URL, http.StatusFound)
	})
	origin.URL = strings.Replace(origin.URL, "://", "://user:hunter2@", 1) + "?signature=hunter2"
	got, _, err := read(t, origin)
	wantContent(t, got, err)
	for name, values := range elsewhere {
		if name == "Authorization" || name == "Cookie" || strings.Contains(strings.Join(values, " "), "hunter2") {
			t.Errorf("%s: %q went to another origin", name, values)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"https://a.example/x", "https://a.example/y", true},
		{"https://a.example", "https://a.example:443", true},
		{"http://a.example", "http://A.example:80", true},
		{"https://a.example", "http://a.example", false},
		{"https://a.example", "https://b.a.example", false},
		{"https://a.example", "https://a.example:8443", false},
		{"https://a.example", "https://a.example.evil.example", false},
	} {
		a, err := url.Parse(tc.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := url.Parse(tc.b)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameOrigin(a, b); got != tc.want {
			t.Errorf("%s and %s: %t", tc.a, tc.b, got)
		}
	}
}

func TestRedirectThatGivesUpTLS(t *testing.T) {
	plain := start(t, serve)
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"?signature=hunter2", http.StatusFound))
	t.Cleanup(server.Close)
	secure := options(server.URL)
	secure.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	_, _, err := read(t, secure)
	wantError(t, err, "SourceUnreachable", true, "url", "checksum")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v shows the signature", err)
	}
	secure.Verified = true
	got, _, err := read(t, secure)
	wantContent(t, got, err)
}

// A link to a mirror is used again, so that all parts come from one mirror, and
// the URL that was given is asked again when the link has expired.
func TestMirrorIsKeptAsLongAsItWorks(t *testing.T) {
	var visits []string
	expired := false
	options := start(t, func(w http.ResponseWriter, r *http.Request) {
		visits = append(visits, r.URL.Path)
		switch {
		case r.URL.Path == "/disk.img":
			http.Redirect(w, r, "/mirror", http.StatusFound)
		case expired:
			expired = false
			w.WriteHeader(http.StatusForbidden)
		default:
			serve(w, r)
		}
	})
	opened, err := openRanged(t, options)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := opened.ReadAt(make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
		expired = true
	}
	if _, err := opened.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(visits), "[/disk.img /mirror /mirror /mirror /disk.img /mirror /mirror /disk.img /mirror]"; got != want {
		t.Errorf("visited %s, want %s", got, want)
	}
}

// Credentials of the URL go to the mirror only if it is of the same origin.
func TestMirrorGetsNoCredentialsOfAnotherOrigin(t *testing.T) {
	var elsewhere []http.Header
	other := start(t, func(w http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Clone())
		serve(w, r)
	})
	origin := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusFound)
	})
	origin.URL = strings.Replace(origin.URL, "://", "://user:hunter2@", 1)
	opened, err := openRanged(t, origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	for _, header := range elsewhere {
		if header.Get("Authorization") != "" {
			t.Errorf("got %v", header)
		}
	}
	if len(elsewhere) != 2 {
		t.Errorf("%d requests", len(elsewhere))
	}
}
