// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

const subject = "VirtualImage/team/debian-13/0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// keyPair is a fresh key in the two PEM forms the module keeps in its Secret.
func keyPair(t *testing.T, curve elliptic.Curve) (key *ecdsa.PrivateKey, private, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})
	return key, private, public
}

func newIssuer(t *testing.T, private []byte, clock clock.PassiveClock) *Issuer {
	t.Helper()
	issuer, err := NewIssuer(private, clock)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func verifierOf(t *testing.T, public []byte, clock clock.PassiveClock) *Verifier {
	t.Helper()
	verifier, err := NewVerifier(public, clock)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

func TestIssueAndVerify(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(now)
	_, private, public := keyPair(t, elliptic.P256())
	signed, err := newIssuer(t, private, clock).Issue(subject, []Access{Repository("vi/team/debian-13", ActionPull, ActionPush)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := verifierOf(t, public, clock).Verify(signed)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != subject {
		t.Errorf("subject %q", claims.Subject)
	}
	if claims.Issuer != "virtualization-controller" || len(claims.Audience) != 1 || claims.Audience[0] != "dvcr" {
		t.Errorf("issuer %q, audience %q", claims.Issuer, claims.Audience)
	}
	if want := now.Add(time.Hour); !claims.ExpiresAt.Equal(want) {
		t.Errorf("expires at %s, want %s", claims.ExpiresAt, want)
	}
}

func TestIssueAcceptsPKCS8Key(t *testing.T) {
	key, _, public := keyPair(t, elliptic.P256())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	clock := clocktesting.NewFakePassiveClock(now)
	issuer := newIssuer(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), clock)
	signed, err := issuer.Issue(subject, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifierOf(t, public, clock).Verify(signed); err != nil {
		t.Error(err)
	}
}

func TestIssuerVerifiesItsOwnTokens(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(now)
	_, private, _ := keyPair(t, elliptic.P256())
	_, foreign, _ := keyPair(t, elliptic.P256())
	issuer := newIssuer(t, private, clock)
	signed, err := issuer.Issue(subject, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuer.Verifier().Verify(signed); err != nil {
		t.Errorf("own token: %v", err)
	}
	if _, err := newIssuer(t, foreign, clock).Verifier().Verify(signed); err == nil {
		t.Error("a foreign token is accepted")
	}
}

func TestIssueRefusesNonsense(t *testing.T) {
	_, private, _ := keyPair(t, elliptic.P256())
	issuer := newIssuer(t, private, clocktesting.NewFakePassiveClock(now))
	if _, err := issuer.Issue("", nil, time.Hour); err == nil {
		t.Error("no error for an empty subject")
	}
	if _, err := issuer.Issue(subject, nil, 0); err == nil {
		t.Error("no error for a token without a lifetime")
	}
}

func TestKeysAreChecked(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(now)
	_, private384, public384 := keyPair(t, elliptic.P384())
	_, private, public := keyPair(t, elliptic.P256())
	for title, key := range map[string][]byte{"empty": nil, "text": []byte("secret words"), "public": public, "other curve": private384} {
		_, err := NewIssuer(key, clock)
		if err == nil || !strings.Contains(err.Error(), "P-256") {
			t.Errorf("signing key %s: error %v must name P-256", title, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret words") {
			t.Errorf("signing key %s: the error holds the key: %v", title, err)
		}
	}
	for title, key := range map[string][]byte{"empty": nil, "text": []byte("words"), "private": private, "other curve": public384} {
		if _, err := NewVerifier(key, clock); err == nil || !strings.Contains(err.Error(), "P-256") {
			t.Errorf("verification key %s: error %v must name P-256", title, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	key, _, public := keyPair(t, elliptic.P256())
	_, foreign, _ := keyPair(t, elliptic.P256())
	good := jwt.MapClaims{"iss": "virtualization-controller", "aud": "dvcr", "sub": subject, "exp": now.Add(time.Hour).Unix()}
	with := func(name string, value any) jwt.MapClaims {
		claims := jwt.MapClaims{}
		for k, v := range good {
			claims[k] = v
		}
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
		return claims
	}
	sign := func(method jwt.SigningMethod, key any, claims jwt.Claims) string {
		signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	foreignKey, err := jwt.ParseECPrivateKeyFromPEM(foreign)
	if err != nil {
		t.Fatal(err)
	}
	es := jwt.SigningMethodES256
	for _, tc := range []struct {
		title, token string
		accepted     bool
	}{
		{"good", sign(es, key, good), true},
		{"empty", "", false},
		{"no token at all", "password", false},
		{"signed by another key", sign(es, foreignKey, good), false},
		{"unsigned", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), false},
		{"HMAC with the public key", sign(jwt.SigningMethodHS256, public, good), false},
		{"cut signature", strings.TrimRight(sign(es, key, good)[:90], "."), false},
		{"expired", sign(es, key, with("exp", now.Add(-time.Second).Unix())), false},
		{"never expires", sign(es, key, with("exp", nil)), false},
		{"other issuer", sign(es, key, with("iss", "tenant")), false},
		{"no issuer", sign(es, key, with("iss", nil)), false},
		{"other audience", sign(es, key, with("aud", "api")), false},
		{"no audience", sign(es, key, with("aud", nil)), false},
		{"no subject", sign(es, key, with("sub", nil)), false},
	} {
		t.Run(tc.title, func(t *testing.T) {
			_, err := verifierOf(t, public, clocktesting.NewFakePassiveClock(now)).Verify(tc.token)
			if (err == nil) != tc.accepted {
				t.Errorf("accepted: %t, want %t (%v)", err == nil, tc.accepted, err)
			}
		})
	}
}

func TestAllows(t *testing.T) {
	claims := Claims{Access: []Access{
		Repository("vi/team/debian", ActionPull, ActionPush),
		{Type: "registry", Name: "catalog", Actions: []string{"*"}},
	}}
	for _, tc := range []struct {
		resourceType, name, action string
		want                       bool
	}{
		{"repository", "vi/team/debian", "pull", true},
		{"repository", "vi/team/debian", "push", true},
		{"repository", "vi/team/debian", "delete", false},
		{"repository", "vi/team/debian", "*", false},
		{"repository", "vi/team/debian", "", false},
		{"repository", "vi/team/debian-13", "pull", false},
		{"repository", "vi/team", "pull", false},
		{"repository", "vi/team/", "pull", false},
		{"repository", "vi/TEAM/debian", "pull", false},
		{"repository", "vi/other/debian", "push", false},
		{"repository", "", "pull", false},
		{"", "vi/team/debian", "pull", false},
		{"registry", "catalog", "pull", false},
	} {
		if got := claims.Allows(tc.resourceType, tc.name, tc.action); got != tc.want {
			t.Errorf("%s %s %s: %t, want %t", tc.resourceType, tc.name, tc.action, got, tc.want)
		}
	}
}

func TestSubject(t *testing.T) {
	for _, tc := range []struct {
		text  string
		want  Subject
		valid bool
	}{
		{"VirtualImage/team/debian/1", Subject{"VirtualImage", "team", "debian", "1"}, true},
		{"ClusterVirtualImage//debian/1", Subject{"ClusterVirtualImage", "", "debian", "1"}, true},
		{"", Subject{}, false},
		{"VirtualImage/team/debian", Subject{}, false},
		{"VirtualImage/team/debian/1/2", Subject{}, false},
		{"/team/debian/1", Subject{}, false},
		{"VirtualImage/team//1", Subject{}, false},
		{"VirtualImage/team/debian/", Subject{}, false},
	} {
		got, err := ParseSubject(tc.text)
		if (err == nil) != tc.valid || got != tc.want {
			t.Errorf("%q: got %+v, %v", tc.text, got, err)
		}
		if tc.valid && got.String() != tc.text {
			t.Errorf("%q is written as %q", tc.text, got)
		}
	}
}

func TestPullAllPermitsPullingOnly(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(now)
	_, private, public := keyPair(t, elliptic.P256())
	signed, err := newIssuer(t, private, clock).IssuePullAll("nodes", 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := verifierOf(t, public, clock).Verify(signed)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		resourceType, action string
		want                 bool
	}{
		{"repository", "pull", true},
		{"repository", "push", false},
		{"repository", "delete", false},
		{"repository", "*", false},
		{"repository", "", false},
		{"registry", "pull", false},
		{"", "pull", false},
	} {
		if got := claims.AllowsEverywhere(tc.resourceType, tc.action); got != tc.want {
			t.Errorf("%s %s: %t", tc.resourceType, tc.action, got)
		}
		// Nobody who asks for an access by its name gets this one.
		if claims.Allows(tc.resourceType, "vi/team/debian", tc.action) {
			t.Errorf("%s %s is allowed by name", tc.resourceType, tc.action)
		}
	}
	ordinary := &Claims{Access: []Access{Repository("vi/team/debian", ActionPull)}}
	if ordinary.AllowsEverywhere("repository", "pull") {
		t.Error("an ordinary token pulls everywhere")
	}
}

// The hook that makes the nodes' credential writes this claim by its name.
func TestPullAllIsNamedInTheToken(t *testing.T) {
	_, private, _ := keyPair(t, elliptic.P256())
	signed, err := newIssuer(t, private, clocktesting.NewFakePassiveClock(now)).IssuePullAll("nodes", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(signed, claims); err != nil || claims["pullAll"] != true {
		t.Errorf("%v, %v", claims, err)
	}
}
