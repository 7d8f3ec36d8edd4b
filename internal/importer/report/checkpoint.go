// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// MaxCheckpointBytes bounds a checkpoint's encoding: it travels in a progress
// report and lies in a Secret.
const MaxCheckpointBytes = 3 << 10

// Checkpoint is how far an import has come, so that an importer that is started
// again goes on from there. Everything it tells is durable in the sink.
type Checkpoint struct {
	// Order names the import that the checkpoint belongs to: source, promised
	// checksums and sink. A checkpoint of another order is worth nothing.
	Order string `json:"order"`
	// Sequence grows with every checkpoint of an order, also over restarts: of
	// two checkpoints the higher is the newer.
	Sequence int64 `json:"sequence"`
	// Validator proves to the source that the image is still the same.
	Validator string `json:"validator,omitempty"`
	// Offset is the source's next byte.
	Offset int64 `json:"offset"`
	// Size is the length of the image as it is stored, 0 if it is not known.
	Size int64 `json:"size,omitempty"`
	// Hashes are the marshalled states of hashes at Offset, by the algorithm of
	// a checksum or by a name of the sink's.
	Hashes map[string][]byte `json:"hashes,omitempty"`
	// Upload is where the registry's upload session goes on.
	Upload string `json:"upload,omitempty"`
	// Sink is what the sink wants to remember; nobody else reads it.
	Sink string `json:"sink,omitempty"`
	// Attempts counts the importers that have worked on the order.
	Attempts int `json:"attempts,omitempty"`
}

// Marshal encodes the checkpoint.
func (c Checkpoint) Marshal() ([]byte, error) {
	content, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the checkpoint: %w", err)
	}
	if len(content) > MaxCheckpointBytes {
		return nil, fmt.Errorf("the checkpoint has %d bytes, more than the %d that are kept", len(content), MaxCheckpointBytes)
	}
	return content, nil
}

// ParseCheckpoint reads what Marshal wrote. Whatever cannot be a checkpoint is
// an error; the import then begins from its first byte.
func ParseCheckpoint(content []byte) (*Checkpoint, error) {
	if len(content) > MaxCheckpointBytes {
		return nil, fmt.Errorf("a checkpoint has at most %d bytes, this one has %d", MaxCheckpointBytes, len(content))
	}
	var c Checkpoint
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	switch {
	case c.Order == "":
		return nil, errors.New("the checkpoint does not say which import it belongs to")
	case c.Offset < 0 || c.Size < 0 || c.Sequence < 0 || c.Attempts < 0:
		return nil, errors.New("the checkpoint holds a negative number")
	}
	return &c, nil
}

// NewestCheckpoint returns the newest of the encoded checkpoints that belongs to
// the order, or nil. What cannot be read is passed over.
func NewestCheckpoint(order string, encoded ...[]byte) *Checkpoint {
	var known []*Checkpoint
	for _, content := range encoded {
		if c, err := ParseCheckpoint(content); err == nil && c.Order == order {
			known = append(known, c)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return slices.MaxFunc(known, func(a, b *Checkpoint) int { return int(min(max(a.Sequence-b.Sequence, -1), 1)) })
}
