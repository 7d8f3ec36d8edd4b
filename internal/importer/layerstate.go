// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"fmt"
	"hash"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// layerHash is the name of the layer's hash in a checkpoint. The others are
// named after the algorithms of checksums.
const layerHash = "layer"

// layerState is what the registry's sink remembers of an image besides the
// checkpoint's common parts.
type layerState struct {
	Format      image.Format `json:"format"`
	VirtualSize int64        `json:"virtualSize"`
	CDROM       bool         `json:"cdrom,omitempty"`
	Compression string       `json:"compression,omitempty"`
	// Digest is that of the whole layer, once all of it is in the registry and
	// every checksum was compared.
	Digest string `json:"digest,omitempty"`
	// Parking tells that the file is being parked, Parked is its digest when it is.
	Parking bool   `json:"parking,omitempty"`
	Parked  string `json:"parked,omitempty"`
}

func (s layerState) encode() string {
	content, err := json.Marshal(s)
	if err != nil {
		return "" // Strings and numbers can always be encoded.
	}
	return string(content)
}

// layerStateOf reads a checkpoint. What does not fit together is no error of the
// image: it is begun anew.
func layerStateOf(c *report.Checkpoint) (state layerState, digest v1.Hash, err error) {
	unusable := func(why error) error {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint cannot be used: %v", why)}
	}
	if err := json.Unmarshal([]byte(c.Sink), &state); err != nil {
		return state, digest, unusable(err)
	}
	if state.Parking && c.Upload != "" {
		return state, digest, nil
	}
	if state.Parked != "" && state.Format == "" {
		return state, digest, nil
	}
	if state.Format == "" || state.VirtualSize <= 0 || c.Size <= 0 || c.Offset > c.Size || c.Upload == "" {
		return state, digest, unusable(fmt.Errorf("it describes no image"))
	}
	if state.Digest != "" {
		if digest, err = v1.NewHash(state.Digest); err != nil {
			return state, digest, unusable(err)
		}
	}
	return state, digest, nil
}

// restore puts hashes into the states of a checkpoint.
func restore(c *report.Checkpoint, name string, h hash.Hash) error {
	state, known := c.Hashes[name]
	if !known {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint lacks the state of %s", name)}
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint's state of %s cannot be read: %v", name, err)}
	}
	return nil
}

// newHashes returns the layer's hash and those of the checksums, in this order.
func newHashes(checksums []image.Checksum) (layer hash.Hash, sums []hash.Hash) {
	for _, checksum := range checksums {
		sums = append(sums, checksum.NewHash())
	}
	return sha256.New(), sums
}
