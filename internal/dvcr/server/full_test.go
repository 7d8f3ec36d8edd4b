// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const repository = "vi/team/mine"

// keys makes a pair of keys and a token of an importer's that may delete, too.
func keys(t *testing.T) (*token.Verifier, string) {
	t.Helper()
	verifier, credentials, _ := allKeys(t)
	return verifier, credentials
}

// allKeys makes the token of a node's as well.
func allKeys(t *testing.T) (verifier *token.Verifier, credentials, pullAll string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := token.NewIssuer(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	access := []token.Access{token.Repository(repository, "pull", "push", "delete")}
	if credentials, err = issuer.Issue("VirtualImage/team/mine/1", access, time.Hour); err != nil {
		t.Fatal(err)
	}
	if pullAll, err = issuer.IssuePullAll("nodes", time.Hour); err != nil {
		t.Fatal(err)
	}
	return issuer.Verifier(), credentials, pullAll
}

// tightDrivers numbers the registrations, which last as long as the process.
var tightDrivers atomic.Int64

// tightDriver lets image data in up to a number of bytes, like a small volume.
type tightDriver struct {
	storagedriver.StorageDriver
	left *int64
}

func (d tightDriver) Writer(ctx context.Context, path string, appending bool) (storagedriver.FileWriter, error) {
	writer, err := d.StorageDriver.Writer(ctx, path, appending)
	return tightWriter{writer, d.left}, err
}

func (d tightDriver) PutContent(ctx context.Context, path string, content []byte) error {
	if *d.left == 0 {
		return &fs.PathError{Op: "write", Path: "/data", Err: unix.ENOSPC}
	}
	return d.StorageDriver.PutContent(ctx, path, content)
}

type tightWriter struct {
	storagedriver.FileWriter
	left *int64
}

func (w tightWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > *w.left {
		return 0, &fs.PathError{Op: "write", Path: "/data", Err: unix.ENOSPC}
	}
	*w.left -= int64(len(p))
	return w.FileWriter.Write(p)
}

// tightRegistry is a registry on a volume of few bytes that does not say so
// before they are full.
func tightRegistry(t *testing.T, left *int64) (handler http.Handler, collector *gc.Collector, credentials string) {
	t.Helper()
	name := fmt.Sprintf("tight-%d", tightDrivers.Add(1))
	err := storagemiddleware.Register(name, func(_ context.Context, driver storagedriver.StorageDriver, _ map[string]any) (storagedriver.StorageDriver, error) {
		return tightDriver{driver, left}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	verifier, credentials := keys(t)
	root := t.TempDir()
	guard := gc.NewGuard(clock.RealClock{}, 0)
	config := distributionConfig(Options{Root: root, Verifier: verifier, HTTPSecret: "s", Guard: guard})
	// Uploads have a way of their own to the disk, which begins with the first.
	config.Middleware["storage"] = slices.Insert(config.Middleware["storage"], 1, configuration.Middleware{Name: name})
	app := handlers.NewApp(context.Background(), config)
	storage, err := NewDriver(context.Background(), root)
	if err != nil {
		t.Fatal(err)
	}
	collector = gc.New(gc.Options{Driver: tightDriver{storage, left}, Guard: guard, Clock: clock.RealClock{}, Logger: slog.New(slog.DiscardHandler)})
	return reportFullStorage(guardRequests(app, guard, func() {}), onVolume(root), verifier), collector, credentials
}

func send(handler http.Handler, method, path, credentials, body string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	if credentials != "" {
		request.SetBasicAuth("importer", credentials)
	}
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	return response
}

func TestFullStorageIsReported(t *testing.T) {
	left := int64(10)
	handler, _, credentials := tightRegistry(t, &left)
	before, failures := testutil.ToFloat64(fullStorageRefusals), testutil.ToFloat64(requestFailures)
	started := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, "")
	if started.Code != http.StatusAccepted {
		t.Fatalf("start: %d %s", started.Code, started.Body)
	}
	fits := send(handler, http.MethodPatch, started.Header().Get("Location"), credentials, "12345678")
	if fits.Code != http.StatusAccepted {
		t.Fatalf("patch that fits: %d %s", fits.Code, fits.Body)
	}
	full := send(handler, http.MethodPatch, fits.Header().Get("Location"), credentials, "12345678")
	if full.Code != 507 {
		t.Errorf("patch that does not fit: %d %s", full.Code, full.Body)
	}
	if got := testutil.ToFloat64(requestFailures) - failures; got != 0 {
		t.Errorf("%v failures are counted for lack of space, want none", got)
	}
	if got := testutil.ToFloat64(fullStorageRefusals) - before; got != 1 {
		t.Errorf("counted %v refusals", got)
	}
}

// A full volume is cured by deleting images: neither that nor the collection may
// need any space.
func TestAFullVolumeCanBeCleaned(t *testing.T) {
	left := int64(1 << 20)
	handler, collector, credentials := tightRegistry(t, &left)
	layer, manifest := blankImage(t)
	upload(t, handler, credentials, layer)
	upload(t, handler, credentials, "{}")
	if w := put(handler, "/v2/"+repository+"/manifests/1", credentials, manifest); w.Code != 201 {
		t.Fatalf("publish: %d %s", w.Code, w.Body)
	}
	left = 0
	if w := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, ""); w.Code != 507 {
		t.Errorf("upload to a full volume: %d %s", w.Code, w.Body)
	}
	if w := send(handler, http.MethodDelete, "/v2/"+repository+"/manifests/"+digest.FromString(manifest).String(), credentials, ""); w.Code != 202 {
		t.Errorf("deletion on a full volume: %d %s", w.Code, w.Body)
	}
	report, err := collector.Collect(context.Background())
	if want := int64(len(layer) + len(manifest) + len("{}")); err != nil || report.FreedBytes != want {
		t.Errorf("freed %d of %d bytes, %v", report.FreedBytes, want, err)
	}
}

// blankImage is the layer of the smallest disk, and a manifest whose
// configuration is {}.
func blankImage(t *testing.T) (layer, manifest string) {
	t.Helper()
	content, err := dvcr.Disk{Size: 512, Format: "raw"}.Layer(strings.NewReader(strings.Repeat("\x00", 512)))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(all), manifestOf(descriptorOf("application/vnd.oci.image.layer.v1.tar", string(all)))
}

func descriptorOf(mediaType, blob string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromString(blob), len(blob))
}

func manifestOf(layers ...string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}`,
		descriptorOf("application/vnd.oci.image.config.v1+json", "{}"), strings.Join(layers, ","))
}

func upload(t *testing.T, handler http.Handler, credentials, blob string) {
	t.Helper()
	started := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, "")
	w := send(handler, http.MethodPut, started.Header().Get("Location")+"&digest="+digest.FromString(blob).String(), credentials, blob)
	if w.Code != 201 {
		t.Fatalf("upload: %d %s", w.Code, w.Body)
	}
}

func put(handler http.Handler, path, credentials, manifest string) *httptest.ResponseRecorder {
	return putAs(handler, path, credentials, "application/vnd.oci.image.manifest.v1+json", manifest)
}

func putAs(handler http.Handler, path, credentials, mediaType, manifest string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPut, path, strings.NewReader(manifest))
	request.SetBasicAuth("importer", credentials)
	request.Header.Set("Content-Type", mediaType)
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	return response
}

func TestWhatCannotFitIsRefusedBeforeItIsSent(t *testing.T) {
	verifier, credentials := keys(t)
	passed := false
	handler := reportFullStorage(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }), onVolume(t.TempDir()), verifier)
	request := func(length int64, credentials string) *httptest.ResponseRecorder {
		passed = false
		r := httptest.NewRequest(http.MethodPatch, "/v2/"+repository+"/blobs/uploads/1", strings.NewReader(""))
		r.ContentLength = length
		if credentials != "" {
			r.SetBasicAuth("importer", credentials)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	if w := request(1<<60, credentials); w.Code != 507 || passed || !strings.Contains(w.Body.String(), "STORAGE_FULL") {
		t.Errorf("status %d, body %s, passed on: %t", w.Code, w.Body, passed)
	}
	if request(1<<60, ""); !passed {
		t.Error("a stranger was told about the space: authorization has to answer")
	}
	if request(1, credentials); !passed {
		t.Error("one byte does not fit")
	}
	if request(-1, credentials); !passed {
		t.Error("an unknown length does not fit")
	}
}

func TestIsFull(t *testing.T) {
	path := &fs.PathError{Op: "write", Path: "/data", Err: unix.ENOSPC}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("no space left on device"), false},
		{unix.EIO, false},
		{unix.ENOSPC, true},
		{unix.EDQUOT, true},
		{path, true},
		{fmt.Errorf("copy: %w", path), true},
		{storagedriver.Error{DriverName: "filesystem", Detail: path}, true},
		{storagedriver.Error{DriverName: "filesystem", Detail: unix.EIO}, false},
		{storagedriver.PathNotFoundError{Path: "/data"}, false},
	} {
		if got := isFull(tc.err); got != tc.want {
			t.Errorf("%v: %t", tc.err, got)
		}
	}
}

func TestOtherErrorsStayInternal(t *testing.T) {
	verifier, _ := keys(t)
	failures, refusals := testutil.ToFloat64(requestFailures), testutil.ToFloat64(fullStorageRefusals)
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusNotFound} {
		handler := reportFullStorage(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = noteFull(r.Context(), unix.EIO)
			w.WriteHeader(status)
		}), onVolume(t.TempDir()), verifier)
		if w := send(handler, http.MethodPatch, "/v2/", "", ""); w.Code != status {
			t.Errorf("status %d became %d", status, w.Code)
		}
	}
	if got := testutil.ToFloat64(requestFailures) - failures; got != 2 {
		t.Errorf("%v failures are counted, want 2", got)
	}
	if got := testutil.ToFloat64(fullStorageRefusals) - refusals; got != 0 {
		t.Errorf("%v refusals are counted, want none", got)
	}
}

func TestStorageCollector(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(Collectors(t.TempDir())...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	size, used, available := values["dvcr_storage_size_bytes"], values["dvcr_storage_used_bytes"], values["dvcr_storage_available_bytes"]
	if size <= 0 || used <= 0 || available <= 0 || used+available > size {
		t.Errorf("size %v, used %v, available %v", size, used, available)
	}
	if _, err := testutil.CollectAndLint(&storageCollector{root: "/"}); err != nil {
		t.Error(err)
	}
	if problem := testutil.CollectAndCount(&storageCollector{root: t.TempDir()}); problem != 3 {
		t.Errorf("%d metrics", problem)
	}
}
