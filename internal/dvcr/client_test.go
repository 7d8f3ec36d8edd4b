// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
)

const (
	uid    = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	newUID = "5c1b8a7e-1f0e-4f5e-8d8e-6f2f8b1c9d22"
)

// blankDisk is the shortest image that the registry lets in.
var blankDisk = strings.Repeat("\x00", 512)

func newClient(t *testing.T, registry *dvcrtest.Registry) *dvcr.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, registry.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	return &dvcr.Client{Issuer: registry.Issuer, CAFile: file}
}

func newPusher(t *testing.T, registry *dvcrtest.Registry, reference, token string) (*dvcr.Pusher, error) {
	t.Helper()
	transport, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return dvcr.NewPusher(context.Background(), reference, dvcr.StaticToken(token), transport)
}

// pushImage puts a small image into the registry and returns its manifest's digest.
func pushImage(t *testing.T, registry *dvcrtest.Registry, reference, content, owner string) string {
	t.Helper()
	ctx := context.Background()
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	disk := dvcr.Disk{Size: int64(len(content)), VirtualSize: 1 << 20, Format: "raw", OwnerUID: owner}
	layer, err := disk.Layer(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, io.TeeReader(layer, hash), disk.LayerSize()); err != nil {
		t.Fatal(err)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	if err := upload.Commit(ctx, digest); err != nil {
		t.Fatal(err)
	}
	image, err := disk.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	published, err := pusher.Publish(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	return published
}

func TestHeadAndDelete(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	client := newClient(t, registry)
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	if _, err := client.Head(ctx, reference); !errors.Is(err, dvcr.ErrNotFound) {
		t.Fatalf("head of nothing: %v", err)
	}
	if err := client.Delete(ctx, reference); err != nil {
		t.Fatalf("delete of nothing: %v", err)
	}
	published := pushImage(t, registry, reference, blankDisk, uid)
	if digest, err := client.Head(ctx, reference); err != nil || digest != published {
		t.Fatalf("head: %s, %v, published %s", digest, err, published)
	}
	for range 2 {
		if err := client.Delete(ctx, reference); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if _, err := client.Head(ctx, reference); !errors.Is(err, dvcr.ErrNotFound) {
		t.Errorf("head after delete: %v", err)
	}
}

// An object that is deleted and made anew under the same name from the same
// source shares the repository and the layer with its predecessor.
func TestDeleteSparesTheSuccessor(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	client := newClient(t, registry)
	before := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	after := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", newUID)
	pushImage(t, registry, before, blankDisk, uid)
	published := pushImage(t, registry, after, blankDisk, newUID)
	if err := client.Delete(ctx, before); err != nil {
		t.Fatal(err)
	}
	if digest, err := client.Head(ctx, after); err != nil || digest != published {
		t.Errorf("successor: %s, %v", digest, err)
	}
}

func TestClientErrors(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	client := newClient(t, registry)
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	if err := client.Delete(ctx, "not a reference"); err == nil || !strings.Contains(err.Error(), "not a reference") {
		t.Errorf("bad reference: %v", err)
	}
	missing := &dvcr.Client{Issuer: registry.Issuer, CAFile: filepath.Join(t.TempDir(), "none")}
	if err := missing.Delete(ctx, reference); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing CA: %v", err)
	}
	foreignIssuer, _ := dvcrtest.Keys(t)
	stranger := &dvcr.Client{Issuer: foreignIssuer, CAFile: client.CAFile}
	if err := stranger.Delete(ctx, reference); err == nil || errors.Is(err, dvcr.ErrNotFound) {
		t.Errorf("foreign key: %v", err)
	}
	registry.Server.Close()
	if err := client.Delete(ctx, reference); err == nil || errors.Is(err, dvcr.ErrNotFound) {
		t.Errorf("registry down: %v", err)
	}
}

func TestTransportNeedsACertificate(t *testing.T) {
	for _, ca := range []string{"", "no PEM"} {
		if _, err := dvcr.NewTransport([]byte(ca)); err == nil {
			t.Errorf("%q is accepted", ca)
		}
	}
}

func TestPusherRefusals(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	if _, err := newPusher(t, registry, reference, "no token"); err != nil {
		t.Fatalf("the first request that needs access is Begin's: %v", err)
	}
	for title, signed := range map[string]string{
		"no token":           "password",
		"pull only":          registry.Token(t, "vi/team/debian", "pull"),
		"another repository": registry.Token(t, "vi/team/other", "pull", "push"),
	} {
		pusher, err := newPusher(t, registry, reference, signed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pusher.Begin(ctx); !errors.Is(err, dvcr.ErrDenied) {
			t.Errorf("%s: %v", title, err)
		}
	}
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of the body may be asked for when it cannot fit.
	if err := upload.Write(ctx, errorReader{t}, 1<<60); !errors.Is(err, dvcr.ErrFull) {
		t.Errorf("too big: %v", err)
	}
}

type errorReader struct{ t *testing.T }

func (r errorReader) Read([]byte) (int, error) {
	r.t.Error("the body was read")
	return 0, io.EOF
}

func TestCommitVerifiesTheDigest(t *testing.T) {
	ctx := context.Background()
	registry := dvcrtest.Start(t)
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := upload.Write(ctx, strings.NewReader("content"), 7); err != nil {
		t.Fatal(err)
	}
	wrong := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	if err := upload.Commit(ctx, wrong); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("commit of other bytes: %v", err)
	}
}

// A body that breaks leaves bytes behind, which Cancel has to free, even when
// the import's context is over.
func TestCancelFreesTheSpace(t *testing.T) {
	registry := dvcrtest.Start(t)
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	upload, err := pusher.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(bytes.NewReader(noise), brokenReader{})
	if err := upload.Write(ctx, broken, 2<<20); err == nil {
		t.Fatal("a broken body was accepted")
	}
	cancel()
	if err := upload.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(registry.Root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "data" {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the source broke") }

// The token must not follow a registry that sends the importer elsewhere.
func TestUploadStaysOnItsHost(t *testing.T) {
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "https://elsewhere.example/v2/upload")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	reference := dvcr.Reference(registry.Address, "VirtualImage", "team", "debian", uid)
	pusher, err := newPusher(t, registry, reference, registry.Token(t, "vi/team/debian", "pull", "push"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pusher.Begin(context.Background()); err == nil || !strings.Contains(err.Error(), "elsewhere.example") {
		t.Errorf("followed: %v", err)
	}
}
