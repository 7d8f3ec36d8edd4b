// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
)

func pusherFor(t *testing.T, registry *dvcrtest.Registry) *dvcr.Pusher {
	t.Helper()
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	return pusher
}

func digestOf(content string) v1.Hash {
	sum := sha256.Sum256([]byte(content))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// An importer that takes over knows nothing but the location.
func TestUploadIsResumed(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	upload, err := pusherFor(t, registry).BeginSized(ctx, 11)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, strings.NewReader("hello"), 5); err != nil {
		t.Fatal(err)
	}
	location := upload.Location()
	if strings.Contains(location, registry.Address) {
		t.Errorf("the location %s depends on the registry's address", location)
	}
	pusher := pusherFor(t, registry)
	resumed, err := pusher.Resume(location)
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := resumed.Offset(ctx); err != nil || stored != 5 {
		t.Fatalf("%d bytes, %v", stored, err)
	}
	if err := resumed.Write(ctx, strings.NewReader(" world"), 6); err != nil {
		t.Fatal(err)
	}
	digest := digestOf("hello world")
	if has, err := pusher.HasBlob(ctx, digest); err != nil || has {
		t.Errorf("before the commit: %t, %v", has, err)
	}
	if err := resumed.Commit(ctx, digest); err != nil {
		t.Fatal(err)
	}
	if has, err := pusher.HasBlob(ctx, digest); err != nil || !has {
		t.Errorf("after the commit: %t, %v", has, err)
	}
	if resumed, err = pusher.Resume(location); err != nil {
		t.Fatal(err)
	}
	if _, err := resumed.Offset(ctx); !errors.Is(err, dvcr.ErrUploadUnknown) {
		t.Errorf("after the commit: %v", err)
	}
}

// A connection that breaks leaves a part of the body, which the status tells.
func TestUploadGoesOnAfterABrokenConnection(t *testing.T) {
	ctx := context.Background()
	var broken atomic.Bool
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch && broken.CompareAndSwap(false, true) {
				r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 100_000), brokenReader{}))
				next.ServeHTTP(w, r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	content := strings.Repeat("0123456789", 30_000)
	upload, err := pusherFor(t, registry).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, strings.NewReader(content), int64(len(content))); err == nil {
		t.Fatal("a broken request is reported as a good one")
	}
	stored, err := upload.Offset(ctx)
	if err != nil || stored != 100_000 {
		t.Fatalf("%d bytes, %v", stored, err)
	}
	if err := upload.Write(ctx, strings.NewReader(content[stored:]), int64(len(content))-stored); err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(ctx, digestOf(content)); err != nil {
		t.Fatal(err)
	}
}

// The registry says what it has of a body that is still coming, and that one may end
// early.
func TestUploadIsProbedWhileItIsUnderWay(t *testing.T) {
	ctx := context.Background()
	upload, err := pusherFor(t, dvcrtest.Start(t)).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat("0123456789", 20_000)
	probe := upload.Probe()
	body, writer := io.Pipe()
	appended := make(chan error, 1)
	go func() { appended <- upload.Append(ctx, body, 1<<20) }()
	if _, err := io.WriteString(writer, content[:100_000]); err != nil {
		t.Fatal(err)
	}
	for stored := int64(0); stored < 65_536; {
		if stored, err = probe.Offset(ctx); err != nil || stored > 100_000 {
			t.Fatalf("%d bytes, %v", stored, err)
		}
	}
	if _, err := io.WriteString(writer, content[100_000:]); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	if stored, err := probe.Offset(ctx); err != nil || stored != 200_000 {
		t.Fatalf("%d bytes, %v", stored, err)
	}
	if err := upload.Append(ctx, strings.NewReader("the end"), 7); err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(ctx, digestOf(content+"the end")); err != nil {
		t.Fatal(err)
	}
}

func TestWhatMayNotFitIsRefusedBeforeItIsSent(t *testing.T) {
	upload, err := pusherFor(t, dvcrtest.Start(t)).Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Append(context.Background(), brokenReader{}, 1<<60); !errors.Is(err, dvcr.ErrFull) {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsStoredYet(t *testing.T) {
	upload, err := pusherFor(t, dvcrtest.Start(t)).Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := upload.Offset(context.Background()); err != nil || stored != 0 {
		t.Errorf("%d bytes, %v", stored, err)
	}
}

func TestWhatCannotBeResumed(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	pusher := pusherFor(t, registry)
	for _, location := range []string{
		"", "%", "https://elsewhere.example/", "/v2/vi/team/other/blobs/uploads/1", "/v2/vi/team/debian/manifests/1",
	} {
		if _, err := pusher.Resume(location); !errors.Is(err, dvcr.ErrUploadUnknown) {
			t.Errorf("%q: %v", location, err)
		}
	}
	// The token goes to the registry of the image, whatever the location says.
	resumed, err := pusher.Resume("https://user@elsewhere.example/v2/vi/team/debian/blobs/uploads/0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11?_state=x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resumed.Offset(ctx); !errors.Is(err, dvcr.ErrUploadUnknown) {
		t.Errorf("an upload that never was: %v", err)
	}
}

func TestWhatCannotFitIsRefusedAtOnce(t *testing.T) {
	pusher := pusherFor(t, dvcrtest.Start(t))
	for _, size := range []int64{1 << 60, 1<<63 - 1} {
		if _, err := pusher.BeginSized(context.Background(), size); !errors.Is(err, dvcr.ErrFull) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestAnswered(t *testing.T) {
	for status, want := range map[int]string{
		429: "answered 429 Too Many Requests",
		500: "answered 500 Internal Server Error; why is in the log of Deployment dvcr in d8-virtualization, which an administrator can read",
		503: "answered 503 Service Unavailable; why is in the log of Deployment dvcr in d8-virtualization, which an administrator can read",
	} {
		if got := dvcr.Answered(status); got != want {
			t.Errorf("%d: %s", status, got)
		}
	}
}
