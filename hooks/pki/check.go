// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// CheckAuthority says why a pair can't sign certificates now.
func CheckAuthority(pair Pair, now time.Time) error {
	parsed, err := pair.Certificate()
	switch {
	case err != nil:
		return err
	case !parsed.IsCA:
		return fmt.Errorf("the certificate is not that of an authority")
	case !now.Before(parsed.NotAfter):
		return fmt.Errorf("the certificate expired on %s", parsed.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

// CheckServing says why a pair can't serve the names from now until some time later.
func CheckServing(pair, authority Pair, names []string, until time.Time) error {
	parsed, err := pair.Certificate()
	if err != nil {
		return err
	}
	signer, err := Parse(authority.Crt)
	if err != nil {
		return fmt.Errorf("the authority: %w", err)
	}
	if err := parsed.CheckSignatureFrom(signer); err != nil {
		return fmt.Errorf("the authority that signs now has not signed it")
	}
	if !slices.Contains(parsed.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		return fmt.Errorf("it is not for servers")
	}
	if got, want := namesOf(parsed), sorted(names); !slices.Equal(got, want) {
		return fmt.Errorf("it is for %v, not for %v", got, want)
	}
	// One that ends with its authority can't be had any longer.
	if !until.Before(parsed.NotAfter) && parsed.NotAfter.Before(signer.NotAfter) {
		return fmt.Errorf("it expires on %s", parsed.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

func namesOf(certificate *x509.Certificate) []string {
	names := slices.Clone(certificate.DNSNames)
	for _, address := range certificate.IPAddresses {
		names = append(names, address.String())
	}
	return sorted(names)
}

func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// Bundle joins PEM certificates, each once, those that are missing or expired left out.
func Bundle(now time.Time, certificates ...[]byte) []byte {
	var bundle []byte
	var seen [][]byte
	for _, text := range certificates {
		parsed, err := Parse(text)
		if err != nil || !now.Before(parsed.NotAfter) || slices.ContainsFunc(seen, func(raw []byte) bool { return bytes.Equal(raw, parsed.Raw) }) {
			continue
		}
		seen = append(seen, parsed.Raw)
		bundle = append(append(bundle, bytes.TrimSpace(text)...), '\n')
	}
	return bundle
}
