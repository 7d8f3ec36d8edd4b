// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrsecrets

import (
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/deckhouse/virtualization/hooks/settings"
)

// What the registry expects of a token; the same names are in its package internal/dvcr/token.
const (
	tokenIssuer   = "virtualization-controller"
	tokenAudience = "dvcr"
	// pullSubject is no object of the API, so the token opens nothing where tokens stand for an object.
	pullSubject = "nodes"
)

// pullClaims let their holder read every image of the registry.
type pullClaims struct {
	jwt.RegisteredClaims
	PullAll bool `json:"pullAll"`
}

// pullToken returns the first known token that the key has signed and that is valid for long enough, else a new one.
func pullToken(known []material, key *ecdsa.PrivateKey, now time.Time) (string, error) {
	for _, candidate := range known {
		if usable(string(candidate.PullToken), key, now) {
			return string(candidate.PullToken), nil
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, pullClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    tokenIssuer,
			Audience:  jwt.ClaimStrings{tokenAudience},
			Subject:   pullSubject,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(settings.CertificateLifetime)),
		},
		PullAll: true,
	}).SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign the token with which nodes read images: %w", err)
	}
	return token, nil
}

// usable says whether the registry would take the token now and for some time to come.
func usable(token string, key *ecdsa.PrivateKey, now time.Time) bool {
	claims := pullClaims{}
	_, err := jwt.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
		jwt.WithIssuer(tokenIssuer),
		jwt.WithAudience(tokenAudience),
		jwt.WithSubject(pullSubject),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now.Add(settings.CertificateRenewAhead) }),
	)
	return err == nil && claims.PullAll
}
