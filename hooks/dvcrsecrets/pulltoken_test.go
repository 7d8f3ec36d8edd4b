// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrsecrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	pullPath = "virtualization.internal.dvcr.pullToken"
	day      = 24 * time.Hour
)

var start = time.Date(2026, 3, 1, 4, 17, 0, 0, time.UTC)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The registry is strict: whatever it asks for has to be in the token.
func TestPullTokenIsWhatTheRegistryTakes(t *testing.T) {
	key := newKey(t)
	token, err := pullToken(nil, key, start)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	parsed, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil },
		jwt.WithTimeFunc(func() time.Time { return start }))
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Method.Alg() != "ES256" {
		t.Errorf("method = %s, want ES256", parsed.Method.Alg())
	}
	for name, want := range map[string]any{
		"iss": "virtualization-controller", "sub": "nodes", "pullAll": true,
		"iat": float64(start.Unix()), "exp": float64(start.Add(365 * day).Unix()),
	} {
		if claims[name] != want {
			t.Errorf("%s = %v, want %v", name, claims[name], want)
		}
	}
	if audience, err := claims.GetAudience(); err != nil || len(audience) != 1 || audience[0] != "dvcr" {
		t.Errorf("audience = %v, %v, want dvcr", audience, err)
	}
	if _, found := claims["access"]; found {
		t.Error("the token names single repositories")
	}
}

func TestPullTokenIsKeptAndRenewed(t *testing.T) {
	key, other := newKey(t), newKey(t)
	first, err := pullToken(nil, key, start)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "virtualization-controller", "aud": "dvcr", "sub": "nodes", "pullAll": true, "exp": start.Add(365 * day).Unix(),
	}).SignedString([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	limited, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": "virtualization-controller", "aud": "dvcr", "sub": "nodes", "exp": start.Add(365 * day).Unix(),
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		token string
		key   *ecdsa.PrivateKey
		after time.Duration
		kept  bool
	}{
		{name: "fresh", token: first, key: key, kept: true},
		{name: "eleven months old", token: first, key: key, after: 334 * day, kept: true},
		{name: "ends within a month", token: first, key: key, after: 336 * day},
		{name: "over", token: first, key: key, after: 400 * day},
		{name: "signed by an earlier key", token: first, key: other},
		{name: "none", token: "", key: key},
		{name: "garbage", token: "a.b.c", key: key},
		{name: "of another method", token: forged, key: key},
		{name: "without the right to pull", token: limited, key: key},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := pullToken([]material{{PullToken: []byte(test.token)}}, test.key, start.Add(test.after))
			if err != nil {
				t.Fatal(err)
			}
			if kept := got == test.token; kept != test.kept {
				t.Errorf("kept = %v, want %v", kept, test.kept)
			}
			if !usable(got, test.key, start.Add(test.after)) {
				t.Error("the token is not usable")
			}
		})
	}
}

// The token outlives runs of the hook: a node would have to be configured anew each time.
func TestPullTokenStaysInTheSecret(t *testing.T) {
	first := hooktest.Run{Config: Config, Values: noValues, Now: start}.Handle(t, Handle)
	encode := func(path string) string { return base64.StdEncoding.EncodeToString([]byte(first.String(path))) }
	secret := fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: dvcr-secrets, namespace: d8-virtualization}
data: {tokenPrivateKey: %q, httpSecret: %q, pullToken: %q}
`, encode(privatePath), encode(secretPath), encode(pullPath))

	later := hooktest.Run{Config: Config, Values: noValues, Objects: []string{secret}, Now: start.Add(30 * day)}.Handle(t, Handle)
	if later.String(pullPath) != first.String(pullPath) {
		t.Error("a month later the token is another one")
	}
	renewed := hooktest.Run{Config: Config, Values: noValues, Objects: []string{secret}, Now: start.Add(350 * day)}.Handle(t, Handle)
	if renewed.String(pullPath) == first.String(pullPath) {
		t.Error("the token was not renewed before its end")
	}
}
