// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package token issues and verifies the credentials of the image registry (DVCR).
//
// A token is a JWT signed with ES256. The controller issues one for every
// import with access to exactly one repository, so a token that leaks from a
// tenant's namespace cannot read or overwrite anybody else's image. The
// registry and the controller's progress endpoint verify it.
package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"k8s.io/utils/clock"
)

const (
	// IssuerName is the `iss` claim of every token.
	IssuerName = "virtualization-controller"
	// Audience is the `aud` claim of every token.
	Audience = "dvcr"
	// TypeRepository is the only resource type a token can give access to.
	TypeRepository = "repository"
	// ActionPull allows reading manifests and blobs.
	ActionPull = "pull"
	// ActionPush allows uploading blobs and manifests.
	ActionPush = "push"
	// ActionDelete allows deleting manifests.
	ActionDelete = "delete"
)

// Access names one resource and what may be done with it.
type Access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Repository is the access to one repository.
func Repository(name string, actions ...string) Access {
	return Access{Type: TypeRepository, Name: name, Actions: actions}
}

// Claims is the content of a token.
type Claims struct {
	jwt.RegisteredClaims
	Access []Access `json:"access,omitempty"`
	// PullAll gives access to pull from every repository. Nodes have it: which
	// images their containers need is not known when they get their credential.
	PullAll bool `json:"pullAll,omitempty"`
}

// Allows tells whether the token permits the action. Names are compared
// exactly: there are no wildcards and no prefixes.
func (c *Claims) Allows(resourceType, name, action string) bool {
	return slices.ContainsFunc(c.Access, func(a Access) bool {
		return a.Type == resourceType && a.Name == name && slices.Contains(a.Actions, action)
	})
}

// AllowsEverywhere tells whether the token permits the action on every resource
// of the type, which is possible for pulling only. It is not a part of Allows, so
// that nobody who asks what a token was issued for takes it for such an order.
func (c *Claims) AllowsEverywhere(resourceType, action string) bool {
	return c.PullAll && resourceType == TypeRepository && action == ActionPull
}

// Issuer signs tokens.
type Issuer struct {
	key   *ecdsa.PrivateKey
	clock clock.PassiveClock
}

// NewIssuer makes an issuer from a PEM private key on the curve P-256.
func NewIssuer(keyPEM []byte, clock clock.PassiveClock) (*Issuer, error) {
	key, err := jwt.ParseECPrivateKeyFromPEM(keyPEM)
	if err != nil {
		// The wrapped error names the PEM problem and never quotes the key.
		return nil, fmt.Errorf("the token signing key must be a PEM EC private key on P-256: %w", err)
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the token signing key is on curve %s: only P-256 is supported", key.Params().Name)
	}
	return &Issuer{key: key, clock: clock}, nil
}

// Issue signs a token for subject that is valid for ttl from now.
func (i *Issuer) Issue(subject string, access []Access, ttl time.Duration) (string, error) {
	return i.sign(subject, Claims{Access: access}, ttl)
}

// IssuePullAll signs a token to pull every image.
func (i *Issuer) IssuePullAll(subject string, ttl time.Duration) (string, error) {
	return i.sign(subject, Claims{PullAll: true}, ttl)
}

func (i *Issuer) sign(subject string, claims Claims, ttl time.Duration) (string, error) {
	switch {
	case subject == "":
		return "", errors.New("a token needs a subject")
	case ttl <= 0:
		return "", fmt.Errorf("a token needs a positive lifetime, got %s", ttl)
	}
	now := i.clock.Now()
	claims.RegisteredClaims = jwt.RegisteredClaims{
		Issuer:    IssuerName,
		Audience:  jwt.ClaimStrings{Audience},
		Subject:   subject,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign token for %s: %w", subject, err)
	}
	return signed, nil
}

// Verifier checks tokens.
type Verifier struct {
	key    *ecdsa.PublicKey
	parser *jwt.Parser
}

// NewVerifier makes a verifier from a PEM public key on the curve P-256.
func NewVerifier(publicKeyPEM []byte, clock clock.PassiveClock) (*Verifier, error) {
	key, err := jwt.ParseECPublicKeyFromPEM(publicKeyPEM)
	if err != nil {
		return nil, fmt.Errorf("the token verification key must be a PEM EC public key on P-256: %w", err)
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the token verification key is on curve %s: only P-256 is supported", key.Params().Name)
	}
	return newVerifier(key, clock), nil
}

func newVerifier(key *ecdsa.PublicKey, clock clock.PassiveClock) *Verifier {
	parser := jwt.NewParser(
		// Naming the method closes the door to `none` and to HMAC keyed with the public key.
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
		jwt.WithIssuer(IssuerName),
		jwt.WithAudience(Audience),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(clock.Now),
	)
	return &Verifier{key: key, parser: parser}
}

// Verify checks signature, issuer, audience and expiry and returns the claims.
func (v *Verifier) Verify(token string) (*Claims, error) {
	claims := &Claims{}
	_, err := v.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return v.key, nil })
	if err != nil {
		return nil, fmt.Errorf("token refused: %w", err)
	}
	if claims.Subject == "" {
		return nil, errors.New("token refused: it has no subject")
	}
	return claims, nil
}

// Verifier accepts what the issuer signs. The controller has only the private
// key and still has to check the tokens that come back to it.
func (i *Issuer) Verifier() *Verifier { return newVerifier(&i.key.PublicKey, i.clock) }
