// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store writes the bytes of uploads to the registry's volume and reads blobs
// from there. Distribution's own driver takes them through the page cache in small
// pieces, on the goroutine that also encrypts and hashes, and leaves all of the disk's
// work to the end; here they pass the cache by in large pieces, beside the rest.
package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"

	"github.com/deckhouse/virtualization/internal/directio"
)

const (
	uploadsDir    = "_uploads"
	dataFile      = "data"
	hashStatesDir = "hashstates"
	// noBytes is the name of the hash's state before the first byte.
	noBytes = "0"
	// fileMode and dirMode are those of distribution's driver.
	fileMode, dirMode = 0o666, 0o777
)

// Driver is distribution's driver of file systems with a way of its own to write
// uploads and to read blobs.
type Driver struct {
	storagedriver.StorageDriver
	root string

	mu sync.Mutex
	// writing is who writes to an upload, by the path of its bytes.
	writing map[string]*writer
}

// New makes a driver of the one that works below a directory.
func New(driver storagedriver.StorageDriver, root string) *Driver {
	return &Driver{StorageDriver: driver, root: root, writing: map[string]*writer{}}
}

// Writer implements storagedriver.StorageDriver.
func (d *Driver) Writer(ctx context.Context, file string, appending bool) (storagedriver.FileWriter, error) {
	if !isUpload(file) {
		return d.StorageDriver.Writer(ctx, file, appending)
	}
	if before := d.writer(file); before != nil && appending {
		// Whoever asks for the size meanwhile wants to know of all that has come.
		before.flush()
	}
	full := d.full(file)
	if err := os.MkdirAll(filepath.Dir(full), dirMode); err != nil {
		return nil, err
	}
	flags := os.O_CREATE
	if !appending {
		flags |= os.O_TRUNC
	}
	opened, err := directio.Open(full, flags, fileMode)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err != nil {
		opened.Close()
		return nil, err
	}
	return &writer{driver: d, path: file, request: requestOf(ctx), file: opened, size: info.Size()}, nil
}

// Reader implements storagedriver.StorageDriver.
func (d *Driver) Reader(ctx context.Context, file string, offset int64) (io.ReadCloser, error) {
	if path.Base(file) == dataFile && offset >= 0 {
		if r := openReader(d.full(file), offset); r != nil {
			return r, nil
		}
	}
	return d.StorageDriver.Reader(ctx, file, offset)
}

// PutContent implements storagedriver.StorageDriver. Distribution keeps the state of
// an upload's hash whenever it lets go of one. That of no bytes is worth nothing, and
// asking for an upload's status comes to it each time; any other may be kept only
// where the bytes are what was hashed: it stands for their digest later.
func (d *Driver) PutContent(ctx context.Context, file string, content []byte) error {
	dir, offset, found := hashState(file)
	if !found {
		return d.StorageDriver.PutContent(ctx, file, content)
	}
	if offset == noBytes {
		return d.touch(dir)
	}
	w := d.writer(path.Join(dir, dataFile))
	if w == nil || w.request != requestOf(ctx) || w.finish() != nil || fmt.Sprint(w.Size()) != offset {
		return nil //nolint:nilerr // Who writes the bytes is told that they could not be kept; a state of them is only not kept.
	}
	return d.StorageDriver.PutContent(ctx, file, content)
}

// touch tells that somebody still wants an upload: it is removed by its age.
func (d *Driver) touch(dir string) error {
	now := time.Now()
	err := os.Chtimes(d.full(dir), now, now)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// begin makes a writer the only one of its upload. One that is there already belongs
// to a request that broke: it must not go on, and nothing of it may come later.
func (d *Driver) begin(w *writer) {
	d.mu.Lock()
	before := d.writing[w.path]
	d.writing[w.path] = w
	d.mu.Unlock()
	if before != nil {
		before.abandon()
	}
}

func (d *Driver) end(w *writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writing[w.path] == w {
		delete(d.writing, w.path)
	}
}

func (d *Driver) writer(file string) *writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writing[file]
}

func (d *Driver) full(file string) string { return filepath.Join(d.root, file) }

// isUpload recognises the bytes of an upload: …/_uploads/<id>/data.
func isUpload(file string) bool {
	return path.Base(file) == dataFile && path.Base(path.Dir(path.Dir(file))) == uploadsDir
}

// hashState recognises …/_uploads/<id>/hashstates/<algorithm>/<offset>.
func hashState(file string) (dir, offset string, found bool) {
	states := path.Dir(path.Dir(file))
	dir = path.Dir(states)
	found = path.Base(states) == hashStatesDir && path.Base(path.Dir(dir)) == uploadsDir && strings.HasPrefix(file, "/")
	return dir, path.Base(file), found
}

type requestKey struct{}

// WithRequest returns a context that is known for that of one request: only the
// request that has written bytes may say what their hash is.
func WithRequest(ctx context.Context) context.Context {
	return context.WithValue(ctx, requestKey{}, &struct{ _ byte }{})
}

func requestOf(ctx context.Context) any { return ctx.Value(requestKey{}) }
