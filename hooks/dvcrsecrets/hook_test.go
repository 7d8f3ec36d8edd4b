// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrsecrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	privatePath = "virtualization.internal.dvcr.tokenPrivateKey"
	publicPath  = "virtualization.internal.dvcr.tokenPublicKey"
	secretPath  = "virtualization.internal.dvcr.httpSecret"
)

type outcome struct {
	private, public, httpSecret string
}

func run(t *testing.T, values string, objects ...string) outcome {
	t.Helper()
	result := hooktest.Run{Config: Config, Values: values, Objects: objects}.Handle(t, Handle)
	return outcome{result.String(privatePath), result.String(publicPath), result.String(secretPath)}
}

func stored(private, public, httpSecret string) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: dvcr-secrets, namespace: d8-virtualization}
data: {tokenPrivateKey: "%s", tokenPublicKey: "%s", httpSecret: "%s"}
`, encode([]byte(private)), encode([]byte(public)), encode([]byte(httpSecret)))
}

func inValues(private, httpSecret string) string {
	return fmt.Sprintf("{virtualization: {internal: {dvcr: {tokenPrivateKey: %q, httpSecret: %q}}}}", private, httpSecret)
}

const noValues = "{virtualization: {internal: {dvcr: {}}}}"

func TestNewSecrets(t *testing.T) {
	got := run(t, noValues)

	block, _ := pem.Decode([]byte(got.public))
	if block == nil || block.Type != "PUBLIC KEY" {
		t.Fatalf("public key is no PEM of a PUBLIC KEY: %q", got.public)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private, ok := parse([]byte(got.private))
	if !ok {
		t.Fatal("the private key is not one of EC P-256")
	}
	if !private.PublicKey.Equal(public) {
		t.Error("the keys are of different pairs")
	}
	if len(got.httpSecret) != 64 {
		t.Errorf("length of the HTTP secret = %d, want 64", len(got.httpSecret))
	}
	if other := run(t, noValues); other.private == got.private || other.httpSecret == got.httpSecret {
		t.Error("two runs made the same secrets")
	}
}

func TestKnownSecrets(t *testing.T) {
	first, second := run(t, noValues), run(t, noValues)
	tests := []struct {
		name    string
		values  string
		objects []string
		want    outcome
	}{
		{
			name:   "stored ones are kept",
			values: noValues, objects: []string{stored(first.private, first.public, first.httpSecret)},
			want: first,
		},
		{
			name:   "stored ones win over the values",
			values: inValues(second.private, second.httpSecret), objects: []string{stored(first.private, first.public, first.httpSecret)},
			want: first,
		},
		{
			name:   "not stored yet",
			values: inValues(second.private, second.httpSecret),
			want:   second,
		},
		{
			name:   "a foreign public key is put right",
			values: noValues, objects: []string{stored(first.private, second.public, first.httpSecret)},
			want: first,
		},
		{
			name:   "broken key and lost HTTP secret come from the values",
			values: inValues(second.private, second.httpSecret), objects: []string{stored("garbage", "", "")},
			want: second,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := run(t, test.values, test.objects...); got != test.want {
				t.Error("other secrets than the wanted ones were chosen")
			}
		})
	}
}

// Tokens are signed with ES256, which no other curve can do.
func TestOtherCurveIsReplaced(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := encode(key)
	if err != nil {
		t.Fatal(err)
	}

	got := run(t, noValues, stored(foreign.private, foreign.public, "kept"))

	if got.private == foreign.private {
		t.Error("the key of curve P-384 was kept")
	}
	if got.httpSecret != "kept" {
		t.Errorf("HTTP secret = %q, want the stored one", got.httpSecret)
	}
}
