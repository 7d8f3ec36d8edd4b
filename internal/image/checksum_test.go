// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"strings"
	"testing"
)

func TestParseChecksum(t *testing.T) {
	for _, tc := range []struct {
		text  string
		valid bool
	}{
		{"md5:d41d8cd98f00b204e9800998ecf8427e", true},
		{"sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", true},
		{"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", true},
		{"sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e", true},
		{"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", true},
		{" md5:d41d8cd98f00b204e9800998ecf8427e\n", true},
		{"", false},
		{"md5", false},
		{"md5:", false},
		{":d41d8cd98f00b204e9800998ecf8427e", false},
		{"d41d8cd98f00b204e9800998ecf8427e", false},
		{"MD5:d41d8cd98f00b204e9800998ecf8427e", false},
		{"crc32:00000000", false},
		{"md5:d41d8cd98f00b204e9800998ecf8427", false},
		{"md5:d41d8cd98f00b204e9800998ecf8427e00", false},
		{"md5:zz1d8cd98f00b204e9800998ecf8427e", false},
		{"sha256:d41d8cd98f00b204e9800998ecf8427e", false},
		{"md5:sha1:d41d8cd98f00b204e9800998ecf8427e", false},
	} {
		got, err := ParseChecksum(tc.text)
		if (err == nil) != tc.valid {
			t.Errorf("%q: %v", tc.text, err)
		}
		if want := strings.ToLower(strings.TrimSpace(tc.text)); tc.valid && got.String() != want {
			t.Errorf("%q: read as %q", tc.text, got)
		}
	}
}

func TestChecksumCheck(t *testing.T) {
	// The sums of "abc", from the algorithms' own specifications.
	for _, text := range []string{
		"md5:900150983cd24fb0d6963f7d28e17f72",
		"sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
	} {
		checksum, err := ParseChecksum(text)
		if err != nil {
			t.Fatal(err)
		}
		h := checksum.NewHash()
		h.Write([]byte("ab"))
		var mismatch *MismatchError
		if err := checksum.Check(h); !errors.As(err, &mismatch) || !strings.Contains(err.Error(), checksum.Algorithm) {
			t.Errorf("%s of other bytes: %v", checksum.Algorithm, err)
		}
		h.Write([]byte("c"))
		if err := checksum.Check(h); err != nil {
			t.Errorf("%s: %v", checksum.Algorithm, err)
		}
	}
}
