// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcrtest runs the module's real registry inside a test.
package dvcrtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/sirupsen/logrus"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

func init() {
	// Distribution writes several lines for every request.
	logrus.SetOutput(io.Discard)
}

// Registry is a running registry with an empty storage directory.
type Registry struct {
	// Address is host:port, what an image reference begins with.
	Address string
	// Root is the storage directory; empty if a bucket holds the images.
	Root string
	// CA is the PEM certificate that the registry is trusted by.
	CA []byte
	// Issuer signs tokens that the registry accepts.
	Issuer *token.Issuer
	// Verifier accepts what Issuer signs.
	Verifier *token.Verifier
	// Collector removes what is unused; it runs only when a test says so.
	Collector *gc.Collector
	// Clock is what the collector goes by. It stands still; the registry has been
	// up for longer than the grace period.
	Clock *clocktesting.FakeClock
	// Server can be closed to make the registry unreachable.
	Server *httptest.Server

	// requests holds a read lock for each that is under way.
	requests *sync.RWMutex
}

// Idle waits until no request is under way: what a client has sent before it went
// away is still being stored when it is gone.
func (r *Registry) Idle() {
	r.requests.Lock()
	defer r.requests.Unlock()
}

// Start runs a registry until the test ends. Each wrapper gets the handler in
// front of which it stands, to make the registry misbehave.
func Start(t testing.TB, wrappers ...func(http.Handler) http.Handler) *Registry {
	t.Helper()
	root := t.TempDir()
	driver, err := server.NewDriver(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, driver, server.Options{Root: root}, wrappers)
}

// StartInBucket is like Start, with the images in a bucket of an object storage.
func StartInBucket(t testing.TB, bucket *server.Bucket, wrappers ...func(http.Handler) http.Handler) *Registry {
	t.Helper()
	driver, err := server.NewBucketDriver(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, driver, server.Options{Bucket: bucket}, wrappers)
}

func start(t testing.TB, driver storagedriver.StorageDriver, options server.Options, wrappers []func(http.Handler) http.Handler) *Registry {
	t.Helper()
	issuer, verifier := Keys(t)
	ctx, cancel := context.WithCancel(context.Background())
	now := clocktesting.NewFakeClock(time.Now().Add(-2 * gc.DefaultGrace))
	guard := gc.NewGuard(now, gc.DefaultGrace)
	now.SetTime(time.Now())
	collector := gc.New(gc.Options{Driver: driver, Guard: guard, Clock: now, Logger: slog.New(slog.DiscardHandler)})
	options.Verifier, options.HTTPSecret, options.Guard, options.Deleted = verifier, "test", guard, collector.Trigger
	handler, err := server.NewHandler(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrap := range wrappers {
		handler = wrap(handler)
	}
	requests := &sync.RWMutex{}
	running := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.RLock()
		defer requests.RUnlock()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		running.Close()
		cancel()
	})
	return &Registry{
		Address:   strings.TrimPrefix(running.URL, "https://"),
		Root:      options.Root,
		CA:        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: running.Certificate().Raw}),
		Issuer:    issuer,
		Verifier:  verifier,
		Collector: collector,
		Clock:     now,
		Server:    running,
		requests:  requests,
	}
}

// Keys makes a fresh pair of keys and both of their users.
func Keys(t testing.TB) (*token.Issuer, *token.Verifier) {
	t.Helper()
	private, public := KeysPEM(t)
	issuer, err := token.NewIssuer(private, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier(public, clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	return issuer, verifier
}

// KeysPEM makes a fresh pair of keys in the form of the module's Secret.
func KeysPEM(t testing.TB) (private, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: privateDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
}

// Token signs a token for one repository.
func (r *Registry) Token(t testing.TB, repository string, actions ...string) string {
	t.Helper()
	signed, err := r.Issuer.Issue("VirtualImage/team/test/0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11",
		[]token.Access{token.Repository(repository, actions...)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
