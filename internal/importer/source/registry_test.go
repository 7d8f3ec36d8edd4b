// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// entry is a file of a layer; a link if its content begins with "-> ".
type entry struct{ name, content string }

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Size: int64(len(e.content)), Mode: 0o644, Typeflag: tar.TypeReg}
		target, link := strings.CutPrefix(e.content, "-> ")
		switch {
		case strings.HasSuffix(e.name, "/"):
			header.Typeflag = tar.TypeDir
		case link:
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, target, 0
		}
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := writer.Write([]byte(e.content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, content []byte) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return encoder.EncodeAll(content, nil)
}

// publicRegistry runs a registry behind the given wrapper, which may be nil, and
// returns its address.
func publicRegistry(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func imageOf(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	image, _ := mutate.AppendLayers(empty.Image)
	for _, layer := range layers {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(layer, types.OCILayer)); err != nil {
			t.Fatal(err)
		}
	}
	return image
}

// push puts an image into the registry and returns options that read it.
func push(t testing.TB, address string, image v1.Image) RegistryOptions {
	t.Helper()
	reference, err := name.ParseReference(address + "/team/debian:12")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(reference, image); err != nil {
		t.Fatal(err)
	}
	return registryOptions(address)
}

func registryOptions(address string) RegistryOptions {
	return RegistryOptions{Image: "docker://" + address + "/team/debian:12", Timing: options("")}
}

func readRegistry(t testing.TB, options RegistryOptions) ([]byte, Stream, error) {
	t.Helper()
	source, err := NewRegistry(options)
	if err != nil {
		return nil, nil, err
	}
	stream, err := source.Open(context.Background())
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	got, err := io.ReadAll(stream)
	return got, stream, err
}

func TestDiskInAContainerImage(t *testing.T) {
	disk := string(content)
	plain := archive(t, entry{"disk/", ""}, entry{"disk/disk.img", disk})
	for _, tc := range []struct {
		title  string
		layers [][]byte
	}{
		{"plain layer", [][]byte{plain}},
		{"gzip", [][]byte{gzipped(t, plain)}},
		{"zstd", [][]byte{zstded(t, plain)}},
		{"names as docker writes them", [][]byte{archive(t, entry{"./disk/any name", disk})}},
		{"beside other files", [][]byte{archive(t, entry{"etc/os-release", "x"}, entry{"a.qcow2", "x"}, entry{"disk/x", disk}, entry{"b.img", "x"})}},
		{"hidden file beside", [][]byte{archive(t, entry{"disk/.keep", ""}, entry{"disk/x", disk})}},
		{"lower layer", [][]byte{gzipped(t, plain), archive(t, entry{"etc/motd", "hello"})}},
		{"upper layer replaces", [][]byte{archive(t, entry{"disk/disk.img", "old"}), plain}},
		{"upper layer takes the other away", [][]byte{plain, archive(t, entry{"disk/old", "x"}), archive(t, entry{"disk/.wh.old", ""})}},
		{"upper layer takes all others away", [][]byte{archive(t, entry{"disk/old", "x"}), archive(t, entry{"disk/.wh..wh..opq", ""}, entry{"disk/new", disk})}},
		{"no /disk", [][]byte{archive(t, entry{"images/Debian.QCOW2", disk}, entry{"README", "x"})}},
		{"no /disk, in a lower layer", [][]byte{archive(t, entry{"debian.raw", disk}), archive(t, entry{"README", "x"})}},
		{"/disk taken away", [][]byte{archive(t, entry{"disk/old.img", "x"}), archive(t, entry{".wh.disk", ""}, entry{"debian.iso", disk})}},
		{"empty layer", [][]byte{plain, archive(t)}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got, stream, err := readRegistry(t, push(t, publicRegistry(t, nil), imageOf(t, tc.layers...)))
			wantContent(t, got, err)
			if stream.Size() != int64(len(content)) {
				t.Errorf("size %d", stream.Size())
			}
			if stream.Received() == 0 {
				t.Error("nothing is counted")
			}
		})
	}
}

func TestNoDiskInAContainerImage(t *testing.T) {
	bomb := gzipped(t, make([]byte, 8<<20))
	const remedy = "ADD --chown=107:107"
	for _, tc := range []struct {
		title   string
		layers  [][]byte
		reason  string
		message string
	}{
		{"no layer", nil, "FormatNotSupported", remedy},
		{"nothing like a disk", [][]byte{archive(t, entry{"bin/sh", "x"})}, "FormatNotSupported", remedy},
		{"two disks", [][]byte{archive(t, entry{"disk/a", "x"}, entry{"disk/b", "y"})}, "FormatNotSupported", "more than one file in /disk (b)"},
		{"two loose disks", [][]byte{archive(t, entry{"a.img", "x"}, entry{"b.iso", "y"})}, "FormatNotSupported", "several"},
		{"link", [][]byte{archive(t, entry{"disk/disk.img", "-> /etc/shadow"})}, "FormatNotSupported", "link"},
		{"taken away", [][]byte{archive(t, entry{"disk/disk.img", "x"}), archive(t, entry{"disk/.wh.disk.img", ""})}, "FormatNotSupported", remedy},
		{"directory taken away", [][]byte{archive(t, entry{"disk/disk.img", "x"}), archive(t, entry{".wh.disk", ""})}, "FormatNotSupported", remedy},
		{"deeper than /disk", [][]byte{archive(t, entry{"disk/a/b", "x"})}, "FormatNotSupported", remedy},
		{"no archive", [][]byte{[]byte(strings.Repeat("hello", 1000))}, "ImageCorrupt", "cannot be read"},
		{"truncated archive", [][]byte{archive(t, entry{"disk/disk.img", string(content)})[:1<<20]}, "ImageCorrupt", "cannot be read"},
		{"truncated gzip", [][]byte{gzipped(t, archive(t, entry{"disk/disk.img", string(content)}))[:1<<20]}, "ImageCorrupt", "cannot be read"},
		{"zeros", [][]byte{bomb}, "FormatNotSupported", remedy},
	} {
		t.Run(tc.title, func(t *testing.T) {
			_, _, err := readRegistry(t, push(t, publicRegistry(t, nil), imageOf(t, tc.layers...)))
			wantError(t, err, tc.reason, true, "image", tc.message)
		})
	}
}

func TestRegistryDropsTheConnection(t *testing.T) {
	var blobs atomic.Int32
	address := publicRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") && blobs.Add(1) <= 2 {
				next.ServeHTTP(&truncatingWriter{ResponseWriter: w, left: 1 << 20}, r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	got, stream, err := readRegistry(t, push(t, address, imageOf(t, gzipped(t, archive(t, entry{"disk/disk.img", string(content)})))))
	wantContent(t, got, err)
	if blobs.Load() != 3 {
		t.Errorf("%d requests", blobs.Load())
	}
	if most := int64(len(content) + 64<<10); stream.Received() > most {
		t.Errorf("received %d bytes: some came twice", stream.Received())
	}
}

// A registry that sends other bytes than the manifest names is not believed.
func TestLayerWithAWrongDigest(t *testing.T) {
	genuine, forged := archive(t, entry{"disk/disk.img", "genuine"}), archive(t, entry{"disk/disk.img", "forged!"})
	address := publicRegistry(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
				_, _ = w.Write(forged)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	_, _, err := readRegistry(t, push(t, address, imageOf(t, genuine)))
	wantError(t, err, "ImageCorrupt", true, "image", "the registry sends a layer with the digest sha256:")
}

func TestPlatforms(t *testing.T) {
	mine := archive(t, entry{"disk/disk.img", string(content)})
	other := archive(t, entry{"disk/disk.img", "of another platform"})
	indexOf := func(platforms map[string][]byte) v1.ImageIndex {
		var index v1.ImageIndex = empty.Index
		for platform, layer := range platforms {
			system, architecture, _ := strings.Cut(platform, "/")
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: imageOf(t, layer),
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: system, Architecture: architecture}}})
		}
		return index
	}
	here := "linux/" + runtime.GOARCH
	for _, tc := range []struct {
		title    string
		index    v1.ImageIndex
		accepted bool
	}{
		{"mine among others", indexOf(map[string][]byte{here: mine, "linux/s390x": other, "unknown/unknown": other}), true},
		{"only one, of another platform", indexOf(map[string][]byte{"linux/s390x": mine, "unknown/unknown": other}), true},
		{"several of other platforms", indexOf(map[string][]byte{"linux/s390x": other, "linux/ppc64le": mine}), false},
		{"none", indexOf(nil), false},
	} {
		t.Run(tc.title, func(t *testing.T) {
			address := publicRegistry(t, nil)
			reference, err := name.ParseReference(address + "/team/debian:12")
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.WriteIndex(reference, tc.index); err != nil {
				t.Fatal(err)
			}
			got, _, err := readRegistry(t, registryOptions(address))
			if tc.accepted {
				wantContent(t, got, err)
			} else {
				wantError(t, err, "FormatNotSupported", true, "image", "variant")
			}
		})
	}
}

// guard lets only the user pass, by Basic credentials.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user == "robot" && password == "hunter:2" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
}

func TestPullSecret(t *testing.T) {
	var open atomic.Bool
	open.Store(true)
	address := publicRegistry(t, func(next http.Handler) http.Handler {
		guarded := guard(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if open.Load() {
				next.ServeHTTP(w, r)
				return
			}
			guarded.ServeHTTP(w, r)
		})
	})
	options := push(t, address, imageOf(t, archive(t, entry{"disk/disk.img", string(content)})))
	open.Store(false)
	auth := base64.StdEncoding.EncodeToString([]byte("robot:hunter:2"))
	for _, tc := range []struct {
		title, config, message string
	}{
		{"auth", `{"auths":{"` + address + `":{"auth":"` + auth + `"}}}`, ""},
		{"user and password", `{"auths":{"` + address + `":{"username":"robot","password":"hunter:2"}}}`, ""},
		{"with a scheme and a path", `{"auths":{"https://` + address + `/v2/":{"auth":"` + auth + `"}}}`, ""},
		{"of the repository", `{"auths":{"` + address + `":{"auth":"eDp5"},"` + address + `/team":{"auth":"` + auth + `"}}}`, ""},
		{"none", ``, "credentials"},
		{"of another registry", `{"auths":{"other.example":{"auth":"` + auth + `"}}}`, "credentials"},
		{"of another repository", `{"auths":{"` + address + `/tea":{"auth":"` + auth + `"}}}`, "credentials"},
		{"wrong", `{"auths":{"` + address + `":{"auth":"eDp5"}}}`, "credentials"},
		{"not JSON", `hunter2`, "not JSON"},
		{"not base64", `{"auths":{"` + address + `":{"auth":"?"}}}`, "base64"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			options.DockerConfig = []byte(tc.config)
			got, _, err := readRegistry(t, options)
			if tc.message == "" {
				wantContent(t, got, err)
				return
			}
			wantError(t, err, "SourceUnauthorized", true, "imagePullSecret", tc.message)
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("%v shows the secret", err)
			}
		})
	}
}

func TestCoversNamesOfDockerHub(t *testing.T) {
	repository, err := name.NewRepository("library/debian")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{
		"https://index.docker.io/v1/": true, "docker.io": true, "index.docker.io": true, "registry-1.docker.io": true,
		"docker.io/library": true, "docker.io/lib": false, "quay.io": false, "": false,
	} {
		if _, got := covers(key, repository); got != want {
			t.Errorf("%q: %t", key, got)
		}
	}
}

func TestRegistryAnswers(t *testing.T) {
	for _, tc := range []struct {
		status    int
		reason    string
		permanent bool
		field     string
	}{
		{404, "SourceNotFound", true, "image"},
		{403, "SourceUnauthorized", true, "imagePullSecret"},
		{429, "SourceUnreachable", false, "image"},
		{400, "SourceUnreachable", true, "image"},
	} {
		address := publicRegistry(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					w.WriteHeader(tc.status)
					return
				}
				next.ServeHTTP(w, r)
			})
		})
		_, _, err := readRegistry(t, registryOptions(address))
		wantError(t, err, tc.reason, tc.permanent, tc.field, "answers")
	}
}

func TestRegistryThatCannotBeReached(t *testing.T) {
	for title, image := range map[string]string{"no reference": "docker://UPPER CASE", "empty": ""} {
		_, _, err := readRegistry(t, RegistryOptions{Image: image})
		wantError(t, err, "SourceNotFound", true, "image", "reference")
		_ = title
	}
	address := publicRegistry(t, nil)
	refusing := registryOptions(address)
	refusing.RefusedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	_, _, err := readRegistry(t, refusing)
	wantError(t, err, "SourceUnreachable", true, "image", "127.0.0.0/8")
}

func TestRegistryWithItsOwnAuthority(t *testing.T) {
	server := httptest.NewTLSServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "https://")
	reference, err := name.ParseReference(address + "/team/debian:12")
	if err != nil {
		t.Fatal(err)
	}
	image := imageOf(t, archive(t, entry{"disk/disk.img", string(content)}))
	if err := remote.Write(reference, image, remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	options := registryOptions(address)
	options.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	got, _, err := readRegistry(t, options)
	wantContent(t, got, err)
	options.CA = []byte("no certificate")
	_, _, err = readRegistry(t, options)
	wantError(t, err, "SourceTLS", true, "caBundle", "PEM")
}

// The token server may be elsewhere, but what it gets must be encrypted.
func TestCredentialsAreNotSentInClear(t *testing.T) {
	guarded := &guardedTransport{host: "registry.example", base: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(strings.Repeat("x", maxManifest+10)))}, nil
	})}
	request := func(url, authorization string) (*http.Response, error) {
		r := httptest.NewRequest(http.MethodGet, url, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return guarded.RoundTrip(r)
	}
	if _, err := request("http://auth.example/token", "Basic eA=="); err == nil {
		t.Error("credentials go to another host without TLS")
	}
	for url, authorization := range map[string]string{"https://auth.example/token": "Basic eA==", "http://auth.example/token": "", "http://registry.example/v2/": "Basic eA=="} {
		if _, err := request(url, authorization); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, bounded := range map[string]bool{"https://registry.example/v2/x/manifests/1": true, "https://registry.example/v2/x/blobs/sha256:1": false} {
		response, err := request(url, "")
		if err != nil {
			t.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, response.Body)
		if (n == maxManifest) != bounded {
			t.Errorf("%s: %d bytes", url, n)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestLayerIsClosedInTheMiddle(t *testing.T) {
	source, err := NewRegistry(push(t, publicRegistry(t, nil), imageOf(t, archive(t, entry{"disk/disk.img", string(content)}))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := source.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Read(make([]byte, 10)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if fmt.Sprint(source) != source.options.Image {
		t.Errorf("called %s", source)
	}
}
