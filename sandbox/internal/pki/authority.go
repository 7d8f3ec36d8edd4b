// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys, certificates and kubeconfigs of the cluster and
// keeps them in a directory, so that a restarted cluster knows its nodes again.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	validity = 10 * 365 * 24 * time.Hour
	// The machine's clock may have been set back since.
	backdate = time.Hour
	// A certificate this close to its end is made anew by the next "up".
	renewBefore = 30 * 24 * time.Hour
)

// Pair is a certificate with its key.
type Pair struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// CertificatePEM encodes the certificate.
func (p Pair) CertificatePEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Raw})
}

// Request describes a certificate.
type Request struct {
	CommonName    string
	Organizations []string
	Usages        []x509.ExtKeyUsage
	DNSNames      []string
	IPs           []net.IP
}

// Store keeps pairs in a directory as NAME.crt and NAME.key.
type Store struct {
	dir string
	now func() time.Time
}

// NewStore returns a store over a directory, which it creates.
func NewStore(dir string, now func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create directory for keys: %w", err)
	}
	return &Store{dir: dir, now: now}, nil
}

// Authority returns the named certificate authority, made if need be.
func (s *Store) Authority(name, commonName string) (Pair, error) {
	if p, err := s.load(name); err == nil && s.fresh(p.Certificate) {
		return p, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Pair{}, err
	}
	template := s.template(Request{CommonName: commonName})
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	return s.issue(name, template, nil)
}

// Certificate returns the named certificate. It is made anew when it is not
// there, is about to expire, was signed by another authority or says something
// else than the request.
func (s *Store) Certificate(name string, ca Pair, r Request) (Pair, error) {
	p, err := s.load(name)
	if err == nil && s.fresh(p.Certificate) && matches(p.Certificate, r) && p.Certificate.CheckSignatureFrom(ca.Certificate) == nil {
		return p, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Pair{}, err
	}
	template := s.template(r)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	return s.issue(name, template, &ca)
}

// fresh says whether a certificate will be good for a while.
func (s *Store) fresh(c *x509.Certificate) bool {
	return s.now().Add(renewBefore).Before(c.NotAfter)
}

func (s *Store) template(r Request) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.CommonName, Organization: r.Organizations},
		NotBefore:             s.now().Add(-backdate),
		NotAfter:              s.now().Add(validity),
		ExtKeyUsage:           r.Usages,
		DNSNames:              r.DNSNames,
		IPAddresses:           r.IPs,
		BasicConstraintsValid: true,
	}
}

// issue signs a template, by itself when there is no authority, and saves it.
func (s *Store) issue(name string, template *x509.Certificate, ca *Pair) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("generate key %s: %w", name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Pair{}, fmt.Errorf("generate serial number of %s: %w", name, err)
	}
	template.SerialNumber = serial
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.Certificate, ca.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, fmt.Errorf("sign %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, fmt.Errorf("read back %s: %w", name, err)
	}
	p := Pair{Certificate: cert, Key: key}
	return p, s.save(name, p)
}

func matches(c *x509.Certificate, r Request) bool {
	if c.Subject.CommonName != r.CommonName || !slices.Equal(c.Subject.Organization, r.Organizations) {
		return false
	}
	return slices.Equal(c.ExtKeyUsage, r.Usages) && slices.Equal(c.DNSNames, r.DNSNames) &&
		slices.EqualFunc(c.IPAddresses, r.IPs, net.IP.Equal)
}

// path is where a file of the store lies.
func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }
