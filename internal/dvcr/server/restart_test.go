// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// breakOff sends the beginning of a body and then breaks the connection.
func breakOff(handler http.Handler, location, credentials, sent string) {
	body, sender := io.Pipe()
	go func() {
		_, _ = io.WriteString(sender, sent)
		_ = sender.CloseWithError(errors.New("connection reset by peer"))
	}()
	request := httptest.NewRequest(http.MethodPatch, location, body)
	request.SetBasicAuth("importer", credentials)
	handler.ServeHTTP(httptest.NewRecorder(), request)
}

// An importer asks after a restart how much has arrived, and goes on from there.
func TestUploadsSurviveARestart(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 20_000)
	for title, lost := range map[string]func(t *testing.T, root string){
		"stopped": func(*testing.T, string) {},
		// A process that was killed has written more than it has kept account of.
		"killed": func(t *testing.T, root string) {
			files, err := filepath.Glob(filepath.Join(root, "docker/registry/v2/repositories", repository, "_uploads/*/data"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			file, err := os.OpenFile(files[0], os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.WriteString(content[200_000:200_123]); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(title, func(t *testing.T) {
			root := t.TempDir()
			verifier, credentials := keys(t)
			start := func() http.Handler {
				handler, err := NewHandler(context.Background(), Options{Root: root, Verifier: verifier, HTTPSecret: "s"})
				if err != nil {
					t.Fatal(err)
				}
				return handler
			}
			handler := start()
			started := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, "")
			chunk := send(handler, http.MethodPatch, started.Header().Get("Location"), credentials, content[:100_000])
			breakOff(handler, chunk.Header().Get("Location"), credentials, content[100_000:200_000])
			lost(t, root)

			handler = start()
			// The location that the importer knows is older than what has arrived.
			status := send(handler, http.MethodGet, started.Header().Get("Location"), credentials, "")
			var last int
			if _, err := fmt.Sscanf(status.Header().Get("Range"), "0-%d", &last); err != nil || status.Code != http.StatusNoContent {
				t.Fatalf("status: %d, range %q, %v", status.Code, status.Header().Get("Range"), err)
			}
			offset := last + 1
			if want := map[string]int{"stopped": 200_000, "killed": 200_123}[title]; offset != want {
				t.Errorf("offset %d, want %d", offset, want)
			}
			rest := send(handler, http.MethodPatch, status.Header().Get("Location"), credentials, content[offset:300_000])
			if rest.Code != http.StatusAccepted {
				t.Fatalf("go on: %d %s", rest.Code, rest.Body)
			}
			finished := send(handler, http.MethodPut, rest.Header().Get("Location")+"&digest="+digest.FromString(content).String(), credentials, content[300_000:])
			if finished.Code != http.StatusCreated {
				t.Fatalf("finish: %d %s", finished.Code, finished.Body)
			}
			blob := send(handler, http.MethodGet, "/v2/"+repository+"/blobs/"+digest.FromString(content).String(), credentials, "")
			if blob.Code != http.StatusOK || blob.Body.String() != content {
				t.Errorf("blob: %d, %d bytes", blob.Code, blob.Body.Len())
			}
		})
	}
}

// A location from before does not lead on after more has arrived: the registry
// says so instead of mixing bytes up.
func TestAStaleLocationIsRefused(t *testing.T) {
	verifier, credentials := keys(t)
	handler, err := NewHandler(context.Background(), Options{Root: t.TempDir(), Verifier: verifier, HTTPSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	started := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, "")
	stale := started.Header().Get("Location")
	if w := send(handler, http.MethodPatch, stale, credentials, "hello"); w.Code != http.StatusAccepted {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := send(handler, http.MethodPatch, stale, credentials, "hello"); w.Code != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// The nodes' credential reads every image and does nothing else.
func TestPullAll(t *testing.T) {
	verifier, credentials, pullAll := allKeys(t)
	handler, err := NewHandler(context.Background(), Options{Root: t.TempDir(), Verifier: verifier, HTTPSecret: "s"})
	if err != nil {
		t.Fatal(err)
	}
	layer, manifest := blankImage(t)
	upload(t, handler, credentials, layer)
	upload(t, handler, credentials, "{}")
	if w := put(handler, "/v2/"+repository+"/manifests/1", credentials, manifest); w.Code != http.StatusCreated {
		t.Fatalf("publish: %d %s", w.Code, w.Body)
	}
	session := send(handler, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", credentials, "").Header().Get("Location")
	blob, image := "/v2/"+repository+"/blobs/"+digest.FromString(layer).String(), "/v2/"+repository+"/manifests/"+digest.FromString(manifest).String()
	for _, tc := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/v2/", 200},
		{"GET", blob, 200},
		{"HEAD", blob, 200},
		{"GET", "/v2/" + repository + "/tags/list", 200},
		{"GET", "/v2/vi/other/none/blobs/" + digest.FromString(layer).String(), 404},
		{"GET", "/v2/_catalog", 401},
		{"POST", "/v2/" + repository + "/blobs/uploads/", 401},
		{"POST", "/v2/vi/other/new/blobs/uploads/?mount=" + digest.FromString(layer).String() + "&from=" + repository, 401},
		{"GET", session, 401},
		{"HEAD", session, 401},
		{"PATCH", session, 401},
		{"PUT", session, 401},
		{"DELETE", session, 401},
		{"PUT", image, 401},
		{"DELETE", image, 401},
		{"DELETE", "/v2/" + repository + "/manifests/1", 401},
		{"DELETE", blob, 401},
	} {
		if w := send(handler, tc.method, tc.path, pullAll, ""); w.Code != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, w.Code, tc.want)
		}
	}
	// A method that distribution takes from a header or a form would get past.
	request := httptest.NewRequest(http.MethodGet, image, nil)
	request.SetBasicAuth("node", pullAll)
	request.Header.Set("X-HTTP-Method-Override", http.MethodDelete)
	handler.ServeHTTP(httptest.NewRecorder(), request)
	request = httptest.NewRequest(http.MethodGet, image, nil)
	request.SetBasicAuth("node", pullAll)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	response := httptest.NewRecorder()
	if handler.ServeHTTP(response, request); response.Code != http.StatusOK {
		t.Errorf("the image afterwards: %d", response.Code)
	}
}
