// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrsecrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// pair is an EC P-256 key pair as PEM: PKCS #8 and PKIX.
type pair struct {
	private, public string
}

// tokenKey returns the first usable key of those known, else a new one.
func tokenKey(known []material) (*ecdsa.PrivateKey, error) {
	for _, candidate := range known {
		if key, ok := parse(candidate.PrivateKey); ok {
			return key, nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create the key of the registry's tokens: %w", err)
	}
	return key, nil
}

// parse accepts only what the registry accepts: tokens are signed with ES256.
func parse(text []byte) (*ecdsa.PrivateKey, bool) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, false
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, false
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	return key, ok && key.Curve == elliptic.P256()
}

func encode(key *ecdsa.PrivateKey) (pair, error) {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, fmt.Errorf("encode the private key of the registry's tokens: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return pair{}, fmt.Errorf("encode the public key of the registry's tokens: %w", err)
	}
	return pair{
		private: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}, nil
}
