// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"
	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	fullStorageMiddleware = "virtualization-full-storage"
	// reservedBytes stay free of image data, so that manifests, links and the
	// removal of images still work on a volume that images have filled.
	reservedBytes = 32 << 20
)

// errCodeStorageFull is what a client reads in the body of a 507 answer.
var errCodeStorageFull = errcode.Register("registry.virtualization", errcode.ErrorDescriptor{
	Value:          "STORAGE_FULL",
	Message:        "the registry's storage is full",
	Description:    "What holds the images has no space left for this one.",
	HTTPStatusCode: http.StatusInsufficientStorage,
})

func init() {
	err := storagemiddleware.Register(fullStorageMiddleware,
		func(_ context.Context, driver storagedriver.StorageDriver, _ map[string]any) (storagedriver.StorageDriver, error) {
			return &watchedDriver{StorageDriver: driver}, nil
		})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

// reportFullStorage answers 507 instead of distribution's 500 when a request
// failed for lack of space, and refuses right away what cannot fit.
func reportFullStorage(next http.Handler, fits func(size int64) bool, verifier *token.Verifier) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wanted := announced(r); wanted > 0 && !fits(wanted) {
			// Strangers are not told how full the volume is.
			if _, err := authenticate(r, verifier); err == nil {
				fullStorageRefusals.Inc()
				_ = errcode.ServeJSON(w, errCodeStorageFull)
				return
			}
		}
		troubles := &troubles{}
		ctx := context.WithValue(r.Context(), fullKey{}, troubles)
		next.ServeHTTP(&fullResponseWriter{ResponseWriter: w, troubles: troubles}, r.WithContext(ctx))
	})
}

// announced is how much a request brings, or the upload that it begins.
func announced(r *http.Request) int64 {
	length, err := strconv.ParseInt(r.Header.Get(dvcr.HeaderUploadLength), 10, 64)
	if err != nil {
		return r.ContentLength
	}
	return max(length, r.ContentLength)
}

// onVolume tells whether the volume takes that many bytes more. A volume that does
// not say is not held against the client: the write itself will tell.
func onVolume(root string) func(size int64) bool {
	return func(size int64) bool {
		var stat unix.Statfs_t
		if err := unix.Statfs(root, &stat); err != nil {
			return true
		}
		return size <= int64(stat.Bavail)*stat.Bsize-reservedBytes
	}
}

// fullKey is the context key under which a request's storage errors are noted.
// Distribution flattens them to text before they reach its response.
type fullKey struct{}

// troubles of a request with the storage.
type troubles struct {
	// full says that there was no space, lost that bytes which were accepted could
	// not be kept: distribution does not look at that.
	full, lost atomic.Bool
}

func noteFull(ctx context.Context, err error) error {
	if troubles, ok := ctx.Value(fullKey{}).(*troubles); ok && isFull(err) {
		troubles.full.Store(true)
	}
	return err
}

func noteLost(ctx context.Context, err error) error {
	if troubles, ok := ctx.Value(fullKey{}).(*troubles); ok && err != nil {
		troubles.lost.Store(true)
	}
	return noteFull(ctx, err)
}

func isFull(err error) bool {
	err = cause(err)
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || isFullBucket(err)
}

// fullResponseWriter turns an internal error into 507 once a storage operation
// of the same request has run out of space, and success into an error where not all
// was kept.
type fullResponseWriter struct {
	http.ResponseWriter
	troubles *troubles
	wrote    bool
}

// WriteHeader implements http.ResponseWriter. Distribution gives a client that
// went away two statuses; the first counts.
func (w *fullResponseWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	if status < http.StatusBadRequest && w.troubles.lost.Load() {
		status = http.StatusInternalServerError
	}
	if status == http.StatusInternalServerError && w.troubles.full.Load() {
		fullStorageRefusals.Inc()
		status = http.StatusInsufficientStorage
	} else if status >= http.StatusInternalServerError {
		requestFailures.Inc()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *fullResponseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// watchedDriver notes in the request's context when the volume is full.
type watchedDriver struct {
	storagedriver.StorageDriver
}

// PutContent implements storagedriver.StorageDriver.
func (d *watchedDriver) PutContent(ctx context.Context, path string, content []byte) error {
	return noteFull(ctx, d.StorageDriver.PutContent(ctx, path, content))
}

// Move implements storagedriver.StorageDriver.
func (d *watchedDriver) Move(ctx context.Context, source, target string) error {
	return noteFull(ctx, d.StorageDriver.Move(ctx, source, target))
}

// Writer implements storagedriver.StorageDriver.
func (d *watchedDriver) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	writer, err := d.StorageDriver.Writer(ctx, path, appending)
	if err != nil {
		return nil, noteFull(ctx, err)
	}
	return &watchedWriter{FileWriter: writer, ctx: ctx}, nil
}

// watchedWriter lives within one request, so it may keep that request's context.
type watchedWriter struct {
	storagedriver.FileWriter
	ctx context.Context
}

// Write implements io.Writer.
func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.FileWriter.Write(p)
	return n, noteFull(w.ctx, err)
}

// Commit implements storagedriver.FileWriter.
func (w *watchedWriter) Commit(ctx context.Context) error {
	return noteFull(w.ctx, w.FileWriter.Commit(ctx))
}

// Close implements io.Closer.
func (w *watchedWriter) Close() error {
	return noteLost(w.ctx, w.FileWriter.Close())
}
