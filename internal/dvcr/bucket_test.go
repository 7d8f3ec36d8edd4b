// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
)

// mebi is enough for a part of an object.
func mebi(count int) string { return strings.Repeat("0123456789abcdef", count<<16) }

// An upload in several requests, by several importers, of pieces that an object storage takes and of some that are too
// small for it.
func TestUploadToABucket(t *testing.T) {
	for title, pieces := range map[string][]string{
		"one small piece":       {"hello"},
		"small pieces":          {"hello", " ", "world"},
		"small after large":     {mebi(20), "tail", mebi(1)},
		"larger than one part":  {mebi(40)},
		"pieces of whole parts": {mebi(16), mebi(16)},
	} {
		t.Run(title, func(t *testing.T) {
			ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
			registry := dvcrtest.StartInBucket(t, store.Bucket())
			upload, err := pusherFor(t, registry).Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sent := 0
			for _, piece := range pieces {
				if err := upload.Write(ctx, strings.NewReader(piece), int64(len(piece))); err != nil {
					t.Fatal(err)
				}
				sent += len(piece)
				if upload, err = pusherFor(t, registry).Resume(upload.Location()); err != nil {
					t.Fatal(err)
				}
				if stored, err := upload.Offset(ctx); err != nil || stored != int64(sent) {
					t.Fatalf("%d bytes of %d, %v", stored, sent, err)
				}
			}
			whole := strings.Join(pieces, "")
			if err := upload.Commit(ctx, digestOf(whole)); err != nil {
				t.Fatal(err)
			}
			if got := download(t, registry, digestOf(whole).String()); got != whole {
				t.Errorf("%d bytes come back of %d", len(got), len(whole))
			}
			if left := store.Unfinished(); left != 0 {
				t.Errorf("%d objects were begun and not finished", left)
			}
			if slices.ContainsFunc(store.Keys(), func(key string) bool { return strings.Contains(key, "_uploads") }) {
				t.Errorf("the upload is still there: %v", store.Keys())
			}
		})
	}
}

func download(t *testing.T, registry *dvcrtest.Registry, digest string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, registry.Server.URL+"/v2/vi/team/debian/blobs/"+digest, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("any", registry.Token(t, "vi/team/debian", "pull"))
	response, err := registry.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return string(content)
}

// What a killed importer leaves is not only what a listing of the bucket shows.
func TestAbandonedUploadLeavesTheBucket(t *testing.T) {
	ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	for _, piece := range []string{mebi(6), "small"} {
		upload, err := pusherFor(t, registry).Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := upload.Write(ctx, strings.NewReader(piece), int64(len(piece))); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := registry.Collector.PurgeUploads(ctx); err != nil || report.Uploads != 0 {
		t.Fatalf("young uploads: %+v, %v", report, err)
	}
	store.Touch(registry.Clock.Now().Add(-2 * time.Hour))
	report, err := registry.Collector.PurgeUploads(ctx)
	if err != nil || report.Uploads != 2 || report.FreedBytes < 6<<20 {
		t.Errorf("%+v, %v", report, err)
	}
	if len(store.Keys()) > 0 || store.Unfinished() > 0 {
		t.Errorf("left: %v and %d unfinished", store.Keys(), store.Unfinished())
	}
}

// A blob that no image refers to goes; so does its repository.
func TestGarbageLeavesTheBucket(t *testing.T) {
	ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	upload, err := pusherFor(t, registry).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, strings.NewReader("hello"), 5); err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(ctx, digestOf("hello")); err != nil {
		t.Fatal(err)
	}
	if report, err := registry.Collector.Collect(ctx); err != nil || report.Blobs != 0 {
		t.Fatalf("what was just pushed: %+v, %v", report, err)
	}
	registry.Clock.Step(24 * time.Hour)
	report, err := registry.Collector.Collect(ctx)
	if err != nil || report.Blobs != 1 || len(store.Keys()) > 0 {
		t.Errorf("%+v, %v; left: %v", report, err, store.Keys())
	}
}

func TestBucketThatCannotBeUsed(t *testing.T) {
	store := dvcrtest.StartObjectStore(t)
	missing, stranger := store.Bucket(), store.Bucket()
	missing.Name, stranger.AccessKey = "other", "STRANGER"
	for _, bucket := range []*server.Bucket{missing, stranger} {
		_, err := server.NewBucketDriver(t.Context(), bucket)
		if err == nil || !strings.Contains(err.Error(), "list the bucket "+bucket.Name+" at "+store.URL) ||
			strings.Contains(err.Error(), bucket.SecretKey) {
			t.Errorf("%s: %v", bucket.Name, err)
		}
	}
}

// What can't become one object is refused before it is sent, and a storage that fails is no reason to lie.
func TestBucketRefuses(t *testing.T) {
	ctx, store := context.Background(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	if _, err := pusherFor(t, registry).BeginSized(ctx, 1<<40); !errors.Is(err, dvcr.ErrFull) {
		t.Errorf("a layer of one TiB: %v", err)
	}
	upload, err := pusherFor(t, registry).BeginSized(ctx, 100<<30)
	if err != nil {
		t.Fatal(err)
	}
	store.SetBroken(true)
	if err := upload.Write(ctx, strings.NewReader("hello"), 5); err == nil {
		t.Error("written to a storage that refuses")
	}
	store.SetBroken(false)
	if stored, err := upload.Offset(ctx); err != nil || stored != 0 {
		t.Errorf("%d bytes, %v", stored, err)
	}
	if err := upload.Cancel(ctx); err != nil {
		t.Error(err)
	}
	if store.Unfinished() > 0 {
		t.Error("a cancelled upload is still there")
	}
}

// begun is an upload that is complete but for its commit.
func begun(t *testing.T, registry *dvcrtest.Registry, content string) *dvcr.Upload {
	t.Helper()
	upload, err := pusherFor(t, registry).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(t.Context(), strings.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
	return upload
}

func copies(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }

// A blob is copied within the storage at the end. Its bytes are there if that fails, whatever becomes of the registry.
func TestCommitToABucketIsRepeated(t *testing.T) {
	ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	content := mebi(6)
	upload := begun(t, registry, content)
	store.Refuse(http.StatusForbidden, "AccessDenied", copies)
	if err := upload.Commit(ctx, digestOf(content)); err == nil || errors.Is(err, dvcr.ErrUploadUnknown) {
		t.Fatalf("committed without a copy: %v", err)
	}
	store.SetBroken(false)
	resumed, err := pusherFor(t, registry).Resume(upload.Location())
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := resumed.Offset(ctx); err != nil || stored != int64(len(content)) {
		t.Fatalf("%d bytes, %v", stored, err)
	}
	if err := resumed.Commit(ctx, digestOf(content)); err != nil {
		t.Fatal(err)
	}
	if got := download(t, registry, digestOf(content).String()); got != content {
		t.Errorf("%d bytes come back of %d", len(got), len(content))
	}
	if slices.ContainsFunc(store.Keys(), func(key string) bool { return strings.Contains(key, "_uploads") }) {
		t.Errorf("the upload is still there: %v", store.Keys())
	}
}

// What is complete can be cancelled; nothing can be added to it.
func TestCompleteUploadInABucket(t *testing.T) {
	ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	failed := func() *dvcr.Upload {
		upload := begun(t, registry, mebi(1))
		store.Refuse(http.StatusForbidden, "AccessDenied", copies)
		if err := upload.Commit(ctx, digestOf(mebi(1))); err == nil {
			t.Fatal("committed without a copy")
		}
		store.SetBroken(false)
		return upload
	}
	isData := func(key string) bool { return strings.HasSuffix(key, "/data") }
	if err := failed().Cancel(ctx); err != nil || slices.ContainsFunc(store.Keys(), isData) {
		t.Errorf("%v, left: %v", err, store.Keys())
	}
	more := failed()
	if _, err := more.Offset(ctx); err != nil {
		t.Fatal(err)
	}
	if err := more.Write(ctx, strings.NewReader("more"), 4); err == nil {
		t.Error("something was added to what is complete")
	}
	if _, err := more.Offset(ctx); !errors.Is(err, dvcr.ErrUploadUnknown) {
		t.Errorf("the client is not told to begin anew: %v", err)
	}
}

// Object storages have many words for having no space.
func TestFullBucket(t *testing.T) {
	for code, status := range map[string]int{
		"QuotaExceeded": http.StatusForbidden, "XMinioAdminBucketQuotaExceeded": http.StatusBadRequest,
		"XMinioStorageFull": http.StatusInsufficientStorage, "InsufficientStorage": http.StatusInsufficientStorage,
	} {
		ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
		registry := dvcrtest.StartInBucket(t, store.Bucket())
		upload, err := pusherFor(t, registry).Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		store.Refuse(status, code, func(r *http.Request) bool { return r.URL.Query().Has("partNumber") })
		for _, content := range []string{"small", mebi(17)} {
			if err := upload.Write(ctx, strings.NewReader(content), int64(len(content))); !errors.Is(err, dvcr.ErrFull) {
				t.Errorf("%s, %d bytes: %v", code, len(content), err)
			}
			if _, err := upload.Offset(ctx); err != nil {
				t.Fatal(err)
			}
		}
		store.Refuse(status, code, func(r *http.Request) bool { return r.Method == http.MethodPut })
		if _, err := pusherFor(t, registry).Begin(ctx); !errors.Is(err, dvcr.ErrFull) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// A rule of the bucket may remove what was begun long ago.
func TestUploadThatTheBucketForgot(t *testing.T) {
	ctx, store := t.Context(), dvcrtest.StartObjectStore(t)
	registry := dvcrtest.StartInBucket(t, store.Bucket())
	upload := begun(t, registry, mebi(1))
	store.Forget()
	if _, err := upload.Offset(ctx); !errors.Is(err, dvcr.ErrUploadUnknown) {
		t.Errorf("the client is not told to begin anew: %v", err)
	}
}
