// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/directio"
)

const (
	// blankStep is zeroed in one call to the kernel, which cannot be interrupted.
	blankStep = 1 << 30
	// zeroStep is read, compared and if need be written at once.
	zeroStep = 1 << 20
)

// Blank makes the whole volume read as zeros if that needs no writing. It
// returns false if it does: then each range that has to be zero needs Zero.
func (v *Volume) Blank(ctx context.Context) (bool, error) {
	if v.fresh {
		return true, nil
	}
	for offset := int64(0); offset < v.size; offset += blankStep {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		err := v.target.Punch(offset, min(blankStep, v.size-offset))
		switch {
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EINVAL):
			// EINVAL: the end of the device is no multiple of its sector.
			return false, nil
		case err != nil:
			return false, failure(fmt.Sprintf("deallocate at byte %d", offset), err)
		}
	}
	return true, nil
}

// Zero makes a range read as zeros by writing. It reads first: on a thin volume
// zeros that are not there cost nothing to read, but space to write.
func (v *Volume) Zero(ctx context.Context, offset, length int64) error {
	if offset < 0 || length < 0 || offset > v.size-length {
		return fmt.Errorf("zero %d bytes at %d of a volume of %d", length, offset, v.size)
	}
	buffer := directio.Buffer(int(min(length, zeroStep)))
	for end := offset + length; offset < end; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		step := min(zeroStep-offset%zeroStep, end-offset)
		piece := buffer[:step]
		if _, err := v.target.ReadAt(piece, offset); err != nil {
			return failure(fmt.Sprintf("read at byte %d", offset), err)
		}
		if !IsZero(piece) {
			if _, err := v.WriteAt(zeros[:step], offset); err != nil {
				return err
			}
		}
		offset += step
	}
	return nil
}

// zeros are written from; the buffer is never changed.
var zeros = directio.Buffer(zeroStep)

// IsZero tells whether all bytes are zero.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
