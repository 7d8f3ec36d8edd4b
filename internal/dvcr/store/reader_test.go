// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

const blob = "/docker/registry/v2/blobs/sha256/ab/abcd/data"

func storeBlob(t *testing.T, root string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(blob)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, blob), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestABlobIsReadFromAnyOffset(t *testing.T) {
	for _, size := range []int{0, 1, 4096, aheadSize, aheadSize + 1, 2 * aheadSize, 3*aheadSize + 12345} {
		d, root := newDriver(t)
		whole := random(size)
		storeBlob(t, root, whole)
		for _, offset := range []int{0, 1, 511, 512, 4096, 5000, aheadSize - 1, aheadSize, aheadSize + 513, 2*aheadSize + 12344} {
			if offset > size {
				continue
			}
			for _, step := range []int{1000, 32 << 10, 4 << 20} {
				r, err := d.Reader(t.Context(), blob, int64(offset))
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if _, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{r}, make([]byte, step)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), whole[offset:]) {
					t.Errorf("%d bytes from %d in steps of %d: %d bytes, or others", size, offset, step, got.Len())
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("behind the end: %d, %v", n, err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// Whoever has enough goes, wherever he is.
func TestAReaderIsClosedInTheMiddle(t *testing.T) {
	d, root := newDriver(t)
	whole := random(4*aheadSize + 1)
	storeBlob(t, root, whole)
	for _, wanted := range []int{0, 1, aheadSize, aheadSize + 1, 3 * aheadSize} {
		r, err := d.Reader(t.Context(), blob, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, wanted)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, whole[:wanted]) {
			t.Errorf("%d bytes: %v", wanted, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errClosed) {
			t.Errorf("after the end: %d, %v", n, err)
		}
	}
}

func TestABlobThatIsGone(t *testing.T) {
	d, _ := newDriver(t)
	var gone storagedriver.PathNotFoundError
	if _, err := d.Reader(t.Context(), blob, 0); !errors.As(err, &gone) {
		t.Errorf("%v", err)
	}
}
