// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"path"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/store"
)

const (
	guardMiddleware = "virtualization-gc-guard"
	guardOption     = "guard"
	storeMiddleware = "virtualization-store"
)

func init() {
	err := storagemiddleware.Register(guardMiddleware,
		func(_ context.Context, driver storagedriver.StorageDriver, options map[string]any) (storagedriver.StorageDriver, error) {
			guard, ok := options[guardOption].(*gc.Guard)
			if !ok || guard == nil {
				return nil, errors.New("no guard against the removal of blobs is configured")
			}
			return guard.Watch(driver), nil
		})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

func init() {
	err := storagemiddleware.Register(storeMiddleware,
		func(_ context.Context, driver storagedriver.StorageDriver, options map[string]any) (storagedriver.StorageDriver, error) {
			root, ok := options[rootParameter].(string)
			if !ok || root == "" {
				return nil, errors.New("no directory for uploads is configured")
			}
			return store.New(driver, root), nil
		})
	if err != nil {
		panic(err) // The name is registered nowhere else.
	}
}

// guardRequests makes each request a session of the guard, and tells when a
// manifest was deleted.
func guardRequests(next http.Handler, guard *gc.Guard, deleted func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Clients that can push ask with HEAD whether they still have to, and read
		// back what they have parked here. Nobody relies on what he deletes.
		session := guard.Begin(r.Method == http.MethodDelete)
		published := false
		defer func() { session.End(published) }()
		answer := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(answer, r.WithContext(store.WithRequest(gc.WithSession(r.Context(), session))))
		if !isManifest(r.URL.Path) {
			return
		}
		published = r.Method == http.MethodPut && answer.status == http.StatusCreated
		if r.Method == http.MethodDelete && answer.status == http.StatusAccepted {
			deleted()
		}
	})
}

// isManifest recognises /v2/<name>/manifests/<reference>. The name may hold any
// word, but a reference holds no slash.
func isManifest(urlPath string) bool { return path.Base(path.Dir(urlPath)) == "manifests" }

// statusWriter keeps the answer's status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
