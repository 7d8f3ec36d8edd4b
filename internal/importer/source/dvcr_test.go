// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
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

const dvcrRepository = "vi/team/debian"

// disk is what the registry takes for one: content with a boot sector.
var disk = func() []byte {
	b := bytes.Clone(content)
	copy(b[510:], "\x55\xaa")
	return b
}()

func wantDisk(t *testing.T, got []byte, from int, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(got, disk[from:]) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

// publish puts the content into the registry as an importer does and returns
// its digest.
func publish(t *testing.T, registry *dvcrtest.Registry) string {
	t.Helper()
	ctx := context.Background()
	transport, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	token := dvcr.StaticToken(registry.Token(t, dvcrRepository, "pull", "push"))
	pusher, err := dvcr.NewPusher(ctx, registry.Address+"/"+dvcrRepository+":uid", token, transport)
	if err != nil {
		t.Fatal(err)
	}
	described := dvcr.Disk{Size: int64(len(disk)), VirtualSize: int64(len(disk)), Format: "raw", OwnerUID: "uid"}
	layer, err := described.Layer(bytes.NewReader(disk))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(layer)
	if err != nil {
		t.Fatal(err)
	}
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, bytes.NewReader(all), int64(len(all))); err != nil {
		t.Fatal(err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(all))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(ctx, digest); err != nil {
		t.Fatal(err)
	}
	image, err := described.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	published, err := pusher.Publish(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	return published
}

func newDVCR(t *testing.T, registry *dvcrtest.Registry, tag string) *DVCR {
	t.Helper()
	transport, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewDVCR(DVCROptions{
		Reference: registry.Address + "/" + dvcrRepository + tag,
		Token:     dvcr.StaticToken(registry.Token(t, dvcrRepository, "pull")),
		Transport: transport, Timing: options(""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		source.kept.CloseIdleConnections()
		source.streaming.CloseIdleConnections()
	})
	return source
}

func TestDiskInDVCR(t *testing.T) {
	registry := dvcrtest.Start(t)
	digest := publish(t, registry)
	for _, tag := range []string{":uid", "@" + digest} {
		source := newDVCR(t, registry, tag)
		stream, err := source.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		wantDisk(t, got, 0, err)
		if stream.Size() != 3<<20 || stream.Received() != 3<<20 {
			t.Errorf("size %d, received %d", stream.Size(), stream.Received())
		}
		rest, err := source.OpenAt(context.Background(), 1<<20, stream.Validator())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(rest); err != nil || !bytes.Equal(got, disk[1<<20:]) {
			t.Errorf("from the middle on: %d bytes, %v", len(got), err)
		}
		end, err := source.OpenAt(context.Background(), 3<<20, stream.Validator())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(end); err != nil || len(got) != 0 {
			t.Errorf("at the end: %d bytes, %v", len(got), err)
		}
		for _, s := range []Stream{stream, rest, end} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		random, err := source.OpenRanged(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 100)
		if n, err := random.ReadAt(p, 3<<20-50); n != 50 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:50], disk[3<<20-50:]) {
			t.Errorf("at random: %d, %v", n, err)
		}
		if n, err := random.ReadAt(p, 3<<20); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("the padding behind the disk is read: %d, %v", n, err)
		}
		if random.Size() != 3<<20 || random.Validator() != stream.Validator() {
			t.Errorf("size %d, validator %s", random.Size(), random.Validator())
		}
		random.Close()
	}
}

func TestDVCRDropsTheConnection(t *testing.T) {
	var blobs atomic.Int32
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			open := strings.HasSuffix(r.Header.Get("Range"), "-")
			if open && blobs.Add(1) <= 2 {
				next.ServeHTTP(&truncatingWriter{ResponseWriter: w, left: 1 << 20}, r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	publish(t, registry)
	stream, err := newDVCR(t, registry, ":uid").Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	got, err := io.ReadAll(stream)
	wantDisk(t, got, 0, err)
	if stream.Received() != 3<<20 {
		t.Errorf("received %d bytes: some came twice", stream.Received())
	}
}

func TestDVCRFailures(t *testing.T) {
	registry := dvcrtest.Start(t)
	publish(t, registry)
	_, err := newDVCR(t, registry, ":other").Open(context.Background())
	wantError(t, err, "SourceNotFound", false, "", "no longer in the image registry")

	_, err = newDVCR(t, registry, ":uid").OpenAt(context.Background(), 0, "sha256:other")
	var changed *ChangedError
	if !errors.As(err, &changed) {
		t.Errorf("another image: %v", err)
	}
	stranger := newDVCR(t, registry, ":uid")
	stranger.options.Token = dvcr.StaticToken("no token")
	_, err = stranger.OpenRanged(context.Background())
	wantError(t, err, "RegistryUnavailable", false, "", "401")

	down := newDVCR(t, registry, ":uid")
	registry.Server.Close()
	_, err = down.Open(context.Background())
	wantError(t, err, "RegistryUnavailable", false, "", "cannot be reached")

	if _, err := NewDVCR(DVCROptions{Reference: "no reference"}); err == nil {
		t.Error("a bad reference is accepted")
	}
}

// A file that was brought into the registry as it is.
func TestBlobInDVCR(t *testing.T) {
	registry := dvcrtest.Start(t)
	ctx := context.Background()
	transport, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	reference := registry.Address + "/" + dvcrRepository + ":uid"
	token := dvcr.StaticToken(registry.Token(t, dvcrRepository, "pull", "push"))
	pusher, err := dvcr.NewPusher(ctx, reference, token, transport)
	if err != nil {
		t.Fatal(err)
	}
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(ctx, digest); err != nil {
		t.Fatal(err)
	}
	source, err := NewDVCRBlob(DVCROptions{Reference: reference, Token: token, Transport: transport, Timing: options("")}, digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.kept.CloseIdleConnections)
	for _, offset := range []int64{0, 1 << 20} {
		stream, err := source.OpenAt(ctx, offset, digest.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		if err != nil || !bytes.Equal(got, content[offset:]) || stream.Size() != 3<<20 {
			t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
		}
		stream.Close()
	}
	random, err := source.OpenRanged(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	if p := make([]byte, 10); random.Size() != 3<<20 {
		t.Errorf("size %d", random.Size())
	} else if _, err := random.ReadAt(p, 1<<20); err != nil || !bytes.Equal(p, content[1<<20:1<<20+10]) {
		t.Errorf("at random: %v", err)
	}
	gone, err := NewDVCRBlob(DVCROptions{Reference: reference, Token: token, Transport: transport, Timing: options("")}, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(gone.kept.CloseIdleConnections)
	_, err = gone.Open(ctx)
	wantError(t, err, "SourceNotFound", false, "", "404")
}
