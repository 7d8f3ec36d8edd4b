// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes and reads the certificates of the module. Time is always an argument, so that years of their life
// can be tried in a moment.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Backdate is how much earlier than it was made a certificate is valid: clocks of nodes differ.
const Backdate = 5 * time.Minute

// Pair is a certificate and its key, both PEM. In JSON they are base64, as in a Secret.
type Pair struct {
	Crt []byte `json:"crt,omitempty"`
	Key []byte `json:"key,omitempty"`
}

// Empty tells whether there is no certificate.
func (p Pair) Empty() bool { return len(p.Crt) == 0 }

// Certificate parses the certificate and makes sure that the key belongs to it.
func (p Pair) Certificate() (*x509.Certificate, error) {
	if _, err := tls.X509KeyPair(p.Crt, p.Key); err != nil {
		return nil, errors.New("certificate and key are broken or belong to different pairs")
	}
	return Parse(p.Crt)
}

// Parse reads the first certificate of a PEM text.
func Parse(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate found")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate can't be read: %w", err)
	}
	return parsed, nil
}

// MadeAt is when a certificate was made, to the second.
func MadeAt(certificate *x509.Certificate) time.Time { return certificate.NotBefore.Add(Backdate) }

// NewAuthority makes a certificate that may sign others, but no further authorities.
func NewAuthority(commonName string, now time.Time, lifetime time.Duration) (Pair, error) {
	template, err := template(commonName, now, now.Add(lifetime))
	if err != nil {
		return Pair{}, err
	}
	template.IsCA, template.MaxPathLenZero = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return sign(template, nil, nil)
}

// Request says what a serving certificate is for.
type Request struct {
	CommonName string
	// Names are DNS names and addresses.
	Names    []string
	Lifetime time.Duration
}

// Issue makes a serving certificate. It never outlives the authority: a client would refuse it all the same, and nobody
// would have seen it coming.
func Issue(authority Pair, request Request, now time.Time) (Pair, error) {
	parent, err := authority.Certificate()
	if err != nil {
		return Pair{}, fmt.Errorf("the authority: %w", err)
	}
	pair, err := tls.X509KeyPair(authority.Crt, authority.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("the authority: %w", err)
	}
	end := now.Add(request.Lifetime)
	if end.After(parent.NotAfter) {
		end = parent.NotAfter
	}
	template, err := template(request.CommonName, now, end)
	if err != nil {
		return Pair{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range request.Names {
		if address := net.ParseIP(name); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return sign(template, parent, pair.PrivateKey)
}

func template(commonName string, now, end time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choose a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-Backdate), NotAfter: end, BasicConstraintsValid: true,
	}, nil
}

// sign makes the key and the certificate; without a parent the certificate signs itself.
func sign(template, parent *x509.Certificate, parentKey any) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key: %w", err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Pair{}, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode the key: %w", err)
	}
	return Pair{
		Crt: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}, nil
}
