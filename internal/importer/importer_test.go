// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	repository = "vi/team/debian"
	uid        = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
)

// rawDisk is 5 MiB and a bit with a partition table.
func rawDisk() []byte {
	b := make([]byte, 5<<20+1536)
	random := rand.NewChaCha8([32]byte{3})
	_, _ = random.Read(b)
	copy(b, "\xeb\x63\x90")
	copy(b[510:], "\x55\xaa")
	return b
}

// qcow2Disk is 4 MiB of file for a disk of 1 GiB.
func qcow2Disk() []byte {
	b := rawDisk()[:4<<20]
	clear(b[:3*65536])
	copy(b, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], 1<<30)
	be.PutUint32(b[36:], 2)
	be.PutUint64(b[40:], 2*65536)
	be.PutUint64(b[48:], 65536)
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], 104)
	return b
}

func isoDisk() []byte {
	b := make([]byte, 1<<20)
	copy(b[32768:], "\x01CD001\x01")
	return b
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, content []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(content, nil)
}

// file serves content as a good web server does.
func file(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
		http.ServeContent(w, r, "disk.img", time.Time{}, bytes.NewReader(content))
	}
}

// chunked serves content without its length.
func chunked(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(content)
	}
}

// newOptions makes an import from a server with the handler into the registry.
func newOptions(t testing.TB, registry *dvcrtest.Registry, handler http.HandlerFunc, checksums ...string) Options {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	from, err := source.NewHTTP(source.HTTPOptions{
		URL: server.URL + "/disk.img", Verified: len(checksums) > 0,
		RetryDelay: time.Millisecond, StallTimeout: 300 * time.Millisecond, HeaderTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	transport, err := dvcr.NewTransport(registry.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	options := Options{
		Source:      from,
		Destination: registry.Address + "/" + repository + ":" + uid,
		Token:       dvcr.StaticToken(registry.Token(t, repository, "pull", "push")),
		Transport:   transport,
		Clock:       clock.RealClock{},
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, text := range checksums {
		checksum, err := image.ParseChecksum(text)
		if err != nil {
			t.Fatal(err)
		}
		options.Checksums = append(options.Checksums, checksum)
	}
	return options
}

// pulled is what a container runtime gets of an image.
type pulled struct {
	image  v1.Image
	digest string
	labels map[string]string
	names  []string
	disk   []byte
}

// pull reads the image back the way container tools do.
func pull(t *testing.T, registry *dvcrtest.Registry) *pulled {
	t.Helper()
	reference, err := name.ParseReference(registry.Address + "/" + repository + ":" + uid)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := remote.Image(reference,
		remote.WithAuth(&authn.Basic{Username: "any", Password: registry.Token(t, repository, "pull")}),
		remote.WithTransport(registry.Server.Client().Transport))
	if err != nil {
		t.Fatal(err)
	}
	config, err := stored.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := stored.Digest()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := stored.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	checkLayer(t, layers[0])
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	p := &pulled{image: stored, digest: digest.String(), labels: config.Config.Labels}
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return p
		} else if err != nil {
			t.Fatal(err)
		}
		p.names = append(p.names, header.Name)
		if header.Typeflag == tar.TypeReg {
			if p.disk, err = io.ReadAll(archive); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkLayer verifies what the manifest and the configuration say about the
// layer: it is stored as it is, so both digests are those of its bytes.
func checkLayer(t *testing.T, layer v1.Layer) {
	t.Helper()
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	bytes, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := layer.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	mediaType, err := layer.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	size, err := layer.Size()
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256Of(bytes); digest.String() != want || diffID.String() != want || size != int64(len(bytes)) || mediaType != "application/vnd.oci.image.layer.v1.tar" {
		t.Errorf("layer %s (%s) of %d bytes, %s; its bytes are %s", digest, diffID, size, mediaType, want)
	}
}

func sha256Of(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func TestImport(t *testing.T) {
	raw, qcow2, iso := rawDisk(), qcow2Disk(), isoDisk()
	gz, zst := gzipped(t, raw), zstded(t, qcow2)
	for _, tc := range []struct {
		title       string
		handler     http.HandlerFunc
		checksums   []string
		disk        []byte
		format      string
		virtualSize int64
		cdrom       bool
		transferred int
	}{
		{"raw", file(raw), nil, raw, "raw", 5<<20 + 1536, false, len(raw)},
		{"raw with checksums", file(raw), []string{sha256Of(raw), fmt.Sprintf("md5:%x", md5.Sum(raw))}, raw, "raw", 5<<20 + 1536, false, len(raw)},
		{"qcow2", file(qcow2), []string{sha256Of(qcow2)}, qcow2, "qcow2", 1 << 30, false, len(qcow2)},
		{"iso", file(iso), nil, iso, "iso", 1 << 20, true, len(iso)},
		{"raw of unknown length", chunked(raw), []string{sha256Of(raw)}, raw, "raw", 5<<20 + 1536, false, 2 * len(raw)},
		{"gzip", file(gz), []string{sha256Of(gz)}, raw, "raw", 5<<20 + 1536, false, len(gz)},
		{"zstd of unknown length", chunked(zst), nil, qcow2, "qcow2", 1 << 30, false, len(zst)},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			result, err := Run(context.Background(), newOptions(t, registry, tc.handler, tc.checksums...))
			if err != nil {
				t.Fatal(err)
			}
			got := pull(t, registry)
			if !bytes.Equal(got.disk, tc.disk) {
				t.Errorf("%d bytes in the registry, %d in the source, or others", len(got.disk), len(tc.disk))
			}
			if want := []string{"disk/", "disk/disk." + tc.format}; fmt.Sprint(got.names) != fmt.Sprint(want) {
				t.Errorf("files %q, want %q", got.names, want)
			}
			wantLabels := map[string]string{
				"source-image-size":                     fmt.Sprint(len(tc.disk)),
				"source-image-virtual-size":             fmt.Sprint(tc.virtualSize),
				"source-image-format":                   tc.format,
				"virtualization.deckhouse.io/owner-uid": uid,
			}
			if fmt.Sprint(got.labels) != fmt.Sprint(wantLabels) {
				t.Errorf("labels %v, want %v", got.labels, wantLabels)
			}
			result.DurationSeconds, result.AverageBytesPerSecond = 0, 0
			want := report.Result{
				Digest: got.digest, Format: tc.format, VirtualSizeBytes: tc.virtualSize, StoredSizeBytes: int64(len(tc.disk)),
				TransferredBytes: int64(tc.transferred), CDROM: tc.cdrom,
			}
			if *result != want {
				t.Errorf("result %+v, want %+v", *result, want)
			}
		})
	}
}

// A repeated import of the same owner gives the same image.
func TestImportTwice(t *testing.T) {
	registry := dvcrtest.Start(t)
	first, err := Run(context.Background(), newOptions(t, registry, file(rawDisk())))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Run(context.Background(), newOptions(t, registry, file(rawDisk())))
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != second.Digest {
		t.Errorf("%s and %s", first.Digest, second.Digest)
	}
}

func TestImportThroughDroppedConnections(t *testing.T) {
	raw := rawDisk()
	for _, tc := range []struct {
		title    string
		header   http.Header
		requests int32
	}{
		// The rest is asked for.
		{"server with ranges", http.Header{"Etag": {fmt.Sprintf(`"%x"`, sha256.Sum256(raw))}}, 2},
		// Asked for the rest, the server begins anew; the upload is begun anew as well.
		{"image that changed", http.Header{"Etag": {`"old"`}}, 3},
		{"server without validators", http.Header{}, 2},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			var requests atomic.Int32
			result, err := Run(context.Background(), newOptions(t, registry, func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) > 1 {
					file(raw)(w, r)
					return
				}
				for name, values := range tc.header {
					w.Header()[name] = values
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
				_, _ = w.Write(raw[:4<<20])
				panic(http.ErrAbortHandler)
			}, fmt.Sprintf("sha256:%x", sha256.Sum256(raw))))
			if err != nil {
				t.Fatal(err)
			}
			got := pull(t, registry)
			if !bytes.Equal(got.disk, raw) || got.digest != result.Digest {
				t.Error("the image in the registry is another")
			}
			if requests.Load() != tc.requests {
				t.Errorf("%d requests, want %d", requests.Load(), tc.requests)
			}
			wantNoUploads(t, registry)
		})
	}
}

// wantNoUploads fails when an upload still holds bytes in the registry.
func wantNoUploads(t *testing.T, registry *dvcrtest.Registry) {
	t.Helper()
	err := filepath.WalkDir(registry.Root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "data" && strings.Contains(path, "_uploads") {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantNoImage fails when anything of an image can be seen in the registry.
func wantNoImage(t *testing.T, registry *dvcrtest.Registry) {
	t.Helper()
	err := filepath.WalkDir(registry.Root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && (entry.Name() == "link" || strings.Contains(path, "/v2/blobs/")) {
			t.Errorf("published: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantFailure(t testing.TB, err error, reason string, permanent bool, field, message string) {
	t.Helper()
	var failure *report.Failure
	switch {
	case !errors.As(err, &failure):
		t.Fatalf("no failure: %v", err)
	case string(failure.Reason) != reason || failure.Permanent != permanent || failure.Field != field:
		t.Errorf("got %s, permanent %t, field %q; want %s, %t, %q (%s)", failure.Reason, failure.Permanent, failure.Field, reason, permanent, field, failure.Message)
	case !strings.Contains(failure.Message, message):
		t.Errorf("message %q does not mention %q", failure.Message, message)
	}
}
