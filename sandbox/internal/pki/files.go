// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

func (s *Store) load(name string) (Pair, error) {
	cert, err := os.ReadFile(s.path(name + ".crt"))
	if err != nil {
		return Pair{}, err
	}
	key, err := s.loadKey(name)
	if err != nil {
		return Pair{}, err
	}
	block, _ := pem.Decode(cert)
	if block == nil {
		return Pair{}, fmt.Errorf("%s holds no certificate: remove it and run \"sandbox up\" again", s.path(name+".crt"))
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Pair{}, fmt.Errorf("%s: %w: remove it and run \"sandbox up\" again", s.path(name+".crt"), err)
	}
	return Pair{Certificate: parsed, Key: key}, nil
}

func (s *Store) loadKey(name string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(s.path(name + ".key"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key: remove it and run \"sandbox up\" again", s.path(name+".key"))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: remove it and run \"sandbox up\" again", s.path(name+".key"), err)
	}
	return key, nil
}

// save writes the key before the certificate: load looks for the certificate
// first, so a crash between the two only means that both are made again.
func (s *Store) save(name string, p Pair) error {
	if err := s.saveKey(name, p.Key); err != nil {
		return err
	}
	return WriteFile(s.path(name+".crt"), p.CertificatePEM(), 0o644)
}

func (s *Store) saveKey(name string, key *ecdsa.PrivateKey) error {
	data, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", name, err)
	}
	return WriteFile(s.path(name+".key"), data, 0o600)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// SigningKey makes NAME.key and NAME.pub, the pair that signs and verifies the
// tokens of service accounts.
func (s *Store) SigningKey(name string) error {
	key, err := s.loadKey(name)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			err = s.saveKey(name, key)
		}
	}
	if err != nil {
		return fmt.Errorf("signing key %s: %w", name, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode public key %s: %w", name, err)
	}
	return WriteFile(s.path(name+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

// WriteFile replaces a file at once, so that nobody ever reads half of it.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	// WriteFile keeps the mode of a file that a crash left behind.
	if err := os.Chmod(tmp, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp, path)
}
