// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package objectstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
	"github.com/deckhouse/virtualization/internal/importer"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	repository = "vi/team/debian"
	uid        = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	mebi       = 1 << 20
)

// noise are bytes of which no two parts are alike.
func noise(size int) []byte {
	content := make([]byte, 0, size+sha256.Size)
	for sum := sha256.Sum256(nil); len(content) < size; sum = sha256.Sum256(sum[:]) {
		content = append(content, sum[:]...)
	}
	return content[:size]
}

// disk is a raw disk with a boot sector, which the registry lets in.
func disk(size int) []byte {
	content := noise(size)
	content[510], content[511] = 0x55, 0xaa
	return content
}

func reference(registry *dvcrtest.Registry) string {
	return registry.Address + "/" + repository + ":" + uid
}

func transport(t *testing.T, registry *dvcrtest.Registry) *http.Transport {
	t.Helper()
	made, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.CloseIdleConnections)
	return made
}

func pusher(t *testing.T, registry *dvcrtest.Registry) *dvcr.Pusher {
	t.Helper()
	token := dvcr.StaticToken(registry.Token(t, repository, "pull", "push"))
	made, err := dvcr.NewPusher(t.Context(), reference(registry), token, transport(t, registry))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func client(t *testing.T, registry *dvcrtest.Registry) *dvcr.Client {
	t.Helper()
	authority := filepath.Join(t.TempDir(), "ca.crt")
	write(t, authority, registry.CA)
	return &dvcr.Client{Issuer: registry.Issuer, CAFile: authority}
}

// imports runs the importer from a web server to the registry.
func imports(t *testing.T, registry *dvcrtest.Registry, content []byte) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
	}))
	defer web.Close()
	from, err := source.NewHTTP(source.HTTPOptions{URL: web.URL + "/disk.img"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := importer.Run(t.Context(), importer.Options{
		Source: from, Destination: reference(registry), Transport: transport(t, registry),
		Token: dvcr.StaticToken(registry.Token(t, repository, "pull", "push")),
		Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
}

// served is what the registry gives for a path below the repository.
func served(t *testing.T, registry *dvcrtest.Registry, path string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, registry.Server.URL+"/v2/"+repository+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("any", registry.Token(t, repository, "pull"))
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	response, err := registry.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(path, response.Status, err)
	}
	return content
}

// layer is the only layer of the image, of which it is checked that it is whole.
func layer(t *testing.T, registry *dvcrtest.Registry) []byte {
	t.Helper()
	manifest, err := v1.ParseManifest(bytes.NewReader(served(t, registry, "/manifests/"+uid)))
	if err != nil || len(manifest.Layers) != 1 {
		t.Fatal(manifest, err)
	}
	content := served(t, registry, "/blobs/"+manifest.Layers[0].Digest.String())
	if digestOf(content) != manifest.Layers[0].Digest {
		t.Error("the layer comes back with another digest")
	}
	return content
}

func digestOf(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// An image larger than what is copied at once comes, is read, is deleted, and leaves nothing.
func TestImage(t *testing.T) {
	storage := startStore(t)
	registry := dvcrtest.StartInBucket(t, storage.bucket(t))
	content := disk(72*mebi + 1536)
	imports(t, registry, content)
	if !bytes.Contains(layer(t, registry), content) {
		t.Error("the disk that was imported is not in the layer")
	}
	if report, err := registry.Collector.Collect(t.Context()); err != nil || report.Blobs != 0 {
		t.Errorf("what an image consists of is collected: %+v, %v", report, err)
	}
	if err := client(t, registry).Delete(t.Context(), reference(registry)); err != nil {
		t.Fatal(err)
	}
	registry.Clock.Step(2 * gc.DefaultGrace)
	report, err := registry.Collector.Collect(t.Context())
	if err != nil || report.FreedBytes < int64(len(content)) {
		t.Errorf("%+v, %v", report, err)
	}
	if left := storage.left(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The storage dies while an upload is under way; the upload goes on where it was. Pieces that are too small for a part
// of an object come before and after.
func TestUploadGoesOn(t *testing.T) {
	storage := startStore(t)
	registry := dvcrtest.StartInBucket(t, storage.bucket(t))
	content := noise(42*mebi + 5)
	upload, err := pusher(t, registry).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(from, to int64) error {
		return upload.Write(t.Context(), bytes.NewReader(content[from:to]), to-from)
	}
	for _, piece := range [][2]int64{{0, 5}, {5, 20 * mebi}, {20 * mebi, 20*mebi + 7}} {
		if err := send(piece[0], piece[1]); err != nil {
			t.Fatal(err)
		}
	}
	storage.kill(t)
	if err := send(20*mebi+7, 40*mebi); err == nil {
		t.Fatal("written to a storage that is gone")
	}
	storage.start(t)
	if upload, err = pusher(t, registry).Resume(upload.Location()); err != nil {
		t.Fatal(err)
	}
	at, err := upload.Offset(t.Context())
	if err != nil || at != 20*mebi+7 {
		t.Fatalf("%d bytes, %v", at, err)
	}
	if err := send(at, int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if err := upload.Commit(t.Context(), digestOf(content)); err != nil {
		t.Fatal(err)
	}
	if got := served(t, registry, "/blobs/"+digestOf(content).String()); !bytes.Equal(got, content) {
		t.Errorf("%d bytes come back of %d, or others", len(got), len(content))
	}
}

// Uploads that nobody goes on with are removed with the parts that no listing shows.
func TestAbandonedUploads(t *testing.T) {
	storage := startStore(t)
	registry := dvcrtest.StartInBucket(t, storage.bucket(t))
	for _, size := range []int{6 * mebi, 6} {
		upload, err := pusher(t, registry).Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := upload.Write(t.Context(), bytes.NewReader(noise(size)), int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := registry.Collector.PurgeUploads(t.Context()); err != nil || report.Uploads != 0 {
		t.Errorf("young uploads: %+v, %v", report, err)
	}
	registry.Clock.Step(2 * gc.IdleUploadAge)
	report, err := registry.Collector.PurgeUploads(t.Context())
	if err != nil || report.Uploads != 2 || report.FreedBytes < 6*mebi+6 {
		t.Errorf("%+v, %v", report, err)
	}
	if left := storage.left(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is wrong with the settings is said when the registry starts, without the key.
func TestWrongSettings(t *testing.T) {
	storage := startStore(t)
	for _, tc := range []struct {
		title, file, content, want string
	}{
		{"an authority that it does not know", "ca.crt", "", "certificate"},
		{"another bucket", "bucket", "other", "NoSuchBucket"},
		{"another account", "accessKey", "AKIASTRANGER", "access key"},
		{"another secret", "secretKey", "wrong-example", "SignatureDoesNotMatch"},
		{"plain HTTP", "regionEndpoint", "http://" + storage.address, "list the bucket"},
		{"nobody there", "regionEndpoint", "https://" + freeAddress(t), "connection refused"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			forgetAuthorities(t)
			bucket, err := server.ReadBucket(storage.settings(t, map[string]string{tc.file: tc.content}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = server.NewBucketDriver(t.Context(), bucket)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "dvcr.storage.objectStorage") {
				t.Errorf("%v does not say %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), bucket.SecretKey) {
				t.Error("the secret key is told")
			}
		})
	}
	if left := storage.left(t); len(left) > 0 {
		t.Errorf("a bucket was written to: %v", left)
	}
	if _, err := os.Stat(filepath.Join(storage.root, "other")); err == nil {
		t.Error("a bucket was made")
	}
}
