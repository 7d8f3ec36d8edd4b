// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

func authority(t *testing.T, lifetime time.Duration) Pair {
	t.Helper()
	made, err := NewAuthority("test", start, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func serving(t *testing.T, by Pair, names ...string) Pair {
	t.Helper()
	made, err := Issue(by, Request{CommonName: "dvcr", Names: names, Lifetime: year}, start)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestNewAuthority(t *testing.T) {
	parsed, err := authority(t, 10*year).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if !parsed.IsCA || !parsed.MaxPathLenZero || parsed.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("authority %t, path %d, usage %b", parsed.IsCA, parsed.MaxPathLen, parsed.KeyUsage)
	}
	if !MadeAt(parsed).Equal(start) || !parsed.NotAfter.Equal(start.Add(10*year)) {
		t.Errorf("made at %s, ends at %s", MadeAt(parsed), parsed.NotAfter)
	}
	if len(parsed.SubjectKeyId) == 0 {
		t.Error("the key has no name by which clients find its authority among several")
	}
}

func TestIssue(t *testing.T) {
	by := authority(t, 10*year)
	parsed, err := serving(t, by, "dvcr", "dvcr.d8-virtualization.svc", "10.96.0.7", "fd00::7").Certificate()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(by.Crt)
	for _, name := range []string{"dvcr", "dvcr.d8-virtualization.svc", "10.96.0.7", "fd00::7"} {
		options := x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := parsed.Verify(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parsed.Verify(x509.VerifyOptions{Roots: pool, DNSName: "other", CurrentTime: start}); err == nil {
		t.Error("good for every name")
	}
	if parsed.IsCA || !parsed.NotAfter.Equal(start.Add(year)) {
		t.Errorf("authority %t, ends at %s", parsed.IsCA, parsed.NotAfter)
	}
}

func TestIssueNeverOutlivesTheAuthority(t *testing.T) {
	parsed, err := serving(t, authority(t, time.Hour), "dvcr").Certificate()
	if err != nil || !parsed.NotAfter.Equal(start.Add(time.Hour)) {
		t.Errorf("ends at %s, %v", parsed.NotAfter, err)
	}
}

func TestIssueNeedsAnAuthority(t *testing.T) {
	if _, err := Issue(Pair{}, Request{CommonName: "dvcr"}, start); err == nil {
		t.Error("nobody has signed, and there was no error")
	}
}

func TestCheckAuthority(t *testing.T) {
	first, second := authority(t, year), authority(t, year)
	for _, test := range []struct {
		name string
		pair Pair
		now  time.Time
		want string
	}{
		{"good", first, start, ""},
		{"at its last moment", first, start.Add(year - time.Second), ""},
		{"expired", first, start.Add(year), "expired on 2031-01-01"},
		{"nothing", Pair{}, start, "certificate and key are broken"},
		{"of two authorities", Pair{Crt: first.Crt, Key: second.Key}, start, "certificate and key are broken"},
		{"a server's", serving(t, first, "dvcr"), start, "not that of an authority"},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, CheckAuthority(test.pair, test.now), test.want) })
	}
}

func TestCheckServing(t *testing.T) {
	by, other := authority(t, 10*year), authority(t, 10*year)
	good := serving(t, by, "dvcr", "10.96.0.7")
	short := authority(t, time.Hour)
	for _, test := range []struct {
		name  string
		pair  Pair
		by    Pair
		names []string
		until time.Time
		want  string
	}{
		{"good", good, by, []string{"10.96.0.7", "dvcr"}, start, ""},
		{"names said twice", good, by, []string{"dvcr", "10.96.0.7", "dvcr"}, start, ""},
		{"nothing", Pair{}, by, nil, start, "are broken"},
		{"of another authority", good, other, []string{"10.96.0.7", "dvcr"}, start, "has not signed it"},
		{"a broken authority", good, Pair{}, []string{"10.96.0.7", "dvcr"}, start, "the authority: no PEM certificate found"},
		{"the authority itself", by, by, nil, start, "it is not for servers"},
		{"a name is missing", good, by, []string{"10.96.0.7", "dvcr", "localhost"}, start, "it is for [10.96.0.7 dvcr], not for [10.96.0.7 dvcr localhost]"},
		{"a name is too much", good, by, []string{"dvcr"}, start, "not for [dvcr]"},
		{"soon at its end", good, by, []string{"10.96.0.7", "dvcr"}, start.Add(year), "it expires on 2031-01-01"},
		{"no longer to be had", serving(t, short, "dvcr"), short, []string{"dvcr"}, start.Add(year), ""},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, CheckServing(test.pair, test.by, test.names, test.until), test.want) })
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestBundle(t *testing.T) {
	first, second, short := authority(t, year), authority(t, year), authority(t, time.Minute)
	got := Bundle(start.Add(time.Hour), first.Crt, nil, []byte("nonsense"), second.Crt, short.Crt, first.Crt)
	want := append(bytes.Clone(first.Crt), second.Crt...)
	if !bytes.Equal(got, want) {
		t.Errorf("got %s, want the two that are valid, once each", got)
	}
	if Bundle(start) != nil {
		t.Error("a bundle of nothing")
	}
}

func TestPairsAreKeptAsInSecrets(t *testing.T) {
	var pair Pair
	if err := json.Unmarshal([]byte(`{"crt": "Y3J0", "key": null}`), &pair); err != nil || string(pair.Crt) != "crt" || pair.Empty() {
		t.Errorf("got %s, %v", pair.Crt, err)
	}
	if written, err := json.Marshal(Pair{}); err != nil || string(written) != "{}" || !(Pair{}).Empty() {
		t.Errorf("nothing is written as %s, %v", written, err)
	}
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
