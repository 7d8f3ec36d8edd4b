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
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	storagemiddleware "github.com/distribution/distribution/v3/registry/storage/driver/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const repository = "vi/team/mine"

func keys(t *testing.T) (*token.Verifier, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := token.NewIssuer(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := issuer.Issue("VirtualImage/team/mine/1", []token.Access{token.Repository(repository, "pull", "push")}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return verifier, signed
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

// tightRegistry is a registry on a volume of 10 bytes that does not say so
// before they are full.
func tightRegistry(t *testing.T) (handler http.Handler, credentials string) {
	t.Helper()
	left := int64(10)
	name := fmt.Sprintf("tight-%d", tightDrivers.Add(1))
	err := storagemiddleware.Register(name, func(_ context.Context, driver storagedriver.StorageDriver, _ map[string]any) (storagedriver.StorageDriver, error) {
		return tightDriver{driver, &left}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	verifier, credentials := keys(t)
	root := t.TempDir()
	config := distributionConfig(Options{Root: root, Verifier: verifier, HTTPSecret: "s", Guard: gc.NewGuard(clock.RealClock{}, time.Hour)})
	config.Middleware["storage"] = append([]configuration.Middleware{{Name: name}}, config.Middleware["storage"]...)
	app := handlers.NewApp(context.Background(), config)
	return reportFullStorage(app, root, verifier), credentials
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
	handler, credentials := tightRegistry(t)
	before := testutil.ToFloat64(fullStorageRefusals)
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
	if got := testutil.ToFloat64(fullStorageRefusals) - before; got != 1 {
		t.Errorf("counted %v refusals", got)
	}
}

func TestWhatCannotFitIsRefusedBeforeItIsSent(t *testing.T) {
	verifier, credentials := keys(t)
	passed := false
	handler := reportFullStorage(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }), t.TempDir(), verifier)
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
	handler := reportFullStorage(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = noteFull(r.Context(), unix.EIO)
		w.WriteHeader(http.StatusInternalServerError)
	}), t.TempDir(), verifier)
	if w := send(handler, http.MethodPatch, "/v2/", "", ""); w.Code != 500 {
		t.Errorf("status %d", w.Code)
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
	size, available := values["dvcr_storage_size_bytes"], values["dvcr_storage_available_bytes"]
	if size <= 0 || available <= 0 || available > size {
		t.Errorf("size %v, available %v", size, available)
	}
	if _, err := testutil.CollectAndLint(&storageCollector{root: "/"}); err != nil {
		t.Error(err)
	}
	if problem := testutil.CollectAndCount(&storageCollector{root: t.TempDir()}); problem != 2 {
		t.Errorf("%d metrics", problem)
	}
}
