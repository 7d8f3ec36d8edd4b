// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package moduleca

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/deckhouse/module-sdk/pkg/certificate"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const path = "virtualization.internal.rootCA"

const tenYears = 87600 * time.Hour

func authority(t *testing.T, lifetime time.Duration) certificate.Authority {
	t.Helper()
	made, err := certificate.GenerateCA("test", certificate.WithCAExpiry(lifetime))
	if err != nil {
		t.Fatal(err)
	}
	return *made
}

func secret(of certificate.Authority) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: virtualization-ca, namespace: d8-virtualization}
data:
  tls.crt: %s
  tls.key: %s
`, base64.StdEncoding.EncodeToString(of.Cert), base64.StdEncoding.EncodeToString(of.Key))
}

func values(of certificate.Authority) string {
	return fmt.Sprintf("{virtualization: {internal: {rootCA: {crt: %s, key: %s}}}}",
		base64.StdEncoding.EncodeToString(of.Cert), base64.StdEncoding.EncodeToString(of.Key))
}

const noValues = "{virtualization: {internal: {}}}"

func TestHandle(t *testing.T) {
	first, second := authority(t, tenYears), authority(t, tenYears)
	mixed := certificate.Authority{Cert: first.Cert, Key: second.Key}
	short := authority(t, 24*time.Hour)

	tests := []struct {
		name    string
		objects []string
		values  string
		after   time.Duration
		want    *certificate.Authority // nil: a new one
	}{
		{name: "nothing is known", values: noValues},
		{name: "the stored one is kept", objects: []string{secret(first)}, values: noValues, want: &first},
		{name: "the stored one wins over the values", objects: []string{secret(first)}, values: values(second), want: &first},
		{name: "not stored yet", values: values(second), want: &second},
		{name: "key of another authority", objects: []string{secret(mixed)}, values: noValues},
		{name: "broken store, good values", objects: []string{secret(mixed)}, values: values(second), want: &second},
		{name: "empty Secret", objects: []string{secret(certificate.Authority{})}, values: noValues},
		{name: "made for another lifetime", objects: []string{secret(short)}, values: noValues},
		{name: "a year before it expires", objects: []string{secret(first)}, values: noValues, after: 9 * 8760 * time.Hour, want: &first},
		{name: "shortly before it expires", objects: []string{secret(first)}, values: values(first), after: tenYears - 30*24*time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			run := hooktest.Run{Config: Config, Objects: test.objects, Values: test.values, Now: time.Now().Add(test.after)}

			var got certificate.Authority
			run.Handle(t, Handle).Decode(path, &got)

			if test.want != nil {
				if !bytes.Equal(got.Cert, test.want.Cert) || !bytes.Equal(got.Key, test.want.Key) {
					t.Error("another authority than the wanted one was chosen")
				}
				return
			}
			for _, known := range []certificate.Authority{first, second, short} {
				if bytes.Equal(got.Cert, known.Cert) {
					t.Fatal("a known authority was kept, want a new one")
				}
			}
			if reason := unusable(got, time.Now()); reason != "" {
				t.Errorf("the new authority is unusable: %s", reason)
			}
		})
	}
}

func TestNewAuthority(t *testing.T) {
	var got certificate.Authority
	hooktest.Run{Config: Config, Values: noValues}.Handle(t, Handle).Decode(path, &got)

	parsed, err := certificate.ParseCertificate(got.Cert)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Subject.CommonName != "virtualization.deckhouse.io" {
		t.Errorf("common name = %q, want virtualization.deckhouse.io", parsed.Subject.CommonName)
	}
	if lifetime := parsed.NotAfter.Sub(parsed.NotBefore); lifetime != tenYears {
		t.Errorf("lifetime = %v, want %v", lifetime, tenYears)
	}
}
