// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
)

// algorithms that an image's publisher may give checksums in. MD5 and SHA-1
// guard against accidents only; they are here because old mirrors publish
// nothing better.
var algorithms = map[string]func() hash.Hash{
	"md5":    md5.New,
	"sha1":   sha1.New,
	"sha256": sha256.New,
	"sha512": sha512.New,
}

// Checksum is a promise about a file's bytes.
type Checksum struct {
	Algorithm string
	Sum       []byte
}

// ParseChecksum reads the form <algorithm>:<hex>, for example sha256:0a1b….
func ParseChecksum(text string) (Checksum, error) {
	algorithm, digits, found := strings.Cut(strings.TrimSpace(text), ":")
	newHash, known := algorithms[algorithm]
	if !found || !known {
		names := slices.Sorted(maps.Keys(algorithms))
		return Checksum{}, fmt.Errorf("checksum %q is not <algorithm>:<hex> with one of the algorithms %s", text, strings.Join(names, ", "))
	}
	sum, err := hex.DecodeString(digits)
	if size := newHash().Size(); err != nil || len(sum) != size {
		return Checksum{}, fmt.Errorf("a %s checksum has %d hexadecimal digits, got %q", algorithm, 2*size, digits)
	}
	return Checksum{Algorithm: algorithm, Sum: sum}, nil
}

// String is the form that ParseChecksum reads.
func (c Checksum) String() string { return c.Algorithm + ":" + hex.EncodeToString(c.Sum) }

// NewHash returns the hash to feed the file's bytes to.
func (c Checksum) NewHash() hash.Hash { return algorithms[c.Algorithm]() }

// MismatchError says that the bytes are not the promised ones.
type MismatchError struct {
	Want Checksum
	Got  []byte
}

// Error implements error.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("the %s checksum of the downloaded file is %x, but %x is given", e.Want.Algorithm, e.Got, e.Want.Sum)
}

// Check compares the sum of all bytes fed to h with the promise.
func (c Checksum) Check(h hash.Hash) error {
	if got := h.Sum(nil); !bytes.Equal(got, c.Sum) {
		return &MismatchError{Want: c, Got: got}
	}
	return nil
}
