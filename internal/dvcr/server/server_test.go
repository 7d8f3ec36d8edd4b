// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	mine   = "vi/team/mine"
	theirs = "vi/other/theirs"
	// The digest of "hello".
	helloDigest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)

// call sends a request; credentials is a whole Authorization header, a token
// to send as a Basic password, or empty.
func call(t *testing.T, registry *dvcrtest.Registry, method, path, credentials, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(method, "https://"+registry.Address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.Contains(credentials, " "):
		request.Header.Set("Authorization", credentials)
	case credentials != "":
		request.SetBasicAuth("importer", credentials)
	}
	response, err := registry.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// push uploads "hello" as a blob and returns the last status.
func push(t *testing.T, registry *dvcrtest.Registry, repository, token string) int {
	t.Helper()
	started := call(t, registry, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token, "")
	if started.StatusCode != http.StatusAccepted {
		return started.StatusCode
	}
	return call(t, registry, http.MethodPut, started.Header.Get("Location")+"&digest="+helloDigest, token, "hello").StatusCode
}

func TestAccess(t *testing.T) {
	registry := dvcrtest.Start(t)
	all := registry.Token(t, mine, token.ActionPull, token.ActionPush, token.ActionDelete)
	if status := push(t, registry, mine, all); status != http.StatusCreated {
		t.Fatalf("push: %d", status)
	}
	if status := push(t, registry, theirs, registry.Token(t, theirs, "pull", "push")); status != http.StatusCreated {
		t.Fatalf("push of the other: %d", status)
	}
	pull := registry.Token(t, mine, token.ActionPull)
	pushOnly := registry.Token(t, mine, token.ActionPush)
	pushPull := registry.Token(t, mine, token.ActionPull, token.ActionPush)
	deletes := registry.Token(t, mine, token.ActionDelete)
	foreignIssuer, _ := dvcrtest.Keys(t)
	foreign, err := foreignIssuer.Issue("VirtualImage/team/mine/1", []token.Access{token.Repository(mine, "pull", "push", "delete")}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	blob, upload := "/v2/"+mine+"/blobs/"+helloDigest, "/v2/"+mine+"/blobs/uploads/"
	for _, tc := range []struct {
		title, method, path, credentials string
		want                             int
	}{
		{"base without credentials", "GET", "/v2/", "", 401},
		{"base with any valid token", "GET", "/v2/", pull, 200},
		{"base with a password that is no token", "GET", "/v2/", "secret", 401},
		{"base with an empty password", "GET", "/v2/", "Basic aW1wb3J0ZXI6", 401},
		{"base with broken Basic", "GET", "/v2/", "Basic !!!", 401},
		{"base with another scheme", "GET", "/v2/", "Digest " + pull, 401},
		{"pull without credentials", "GET", blob, "", 401},
		{"pull with Basic", "GET", blob, pull, 200},
		{"pull with Bearer", "GET", blob, "Bearer " + pull, 200},
		{"pull with lower-case bearer", "GET", blob, "bearer " + pull, 200},
		{"pull with a foreign signature", "GET", blob, foreign, 401},
		{"pull with push only", "GET", blob, pushOnly, 401},
		{"head with pull", "HEAD", blob, pull, 200},
		{"range with pull", "GET", blob, pull, 200},
		{"upload with pull only", "POST", upload, pull, 401},
		{"upload with push only", "POST", upload, pushOnly, 401},
		{"upload with push and pull", "POST", upload, pushPull, 202},
		{"upload without credentials", "POST", upload, "", 401},
		{"delete with push and pull", "DELETE", blob, pushPull, 401},
		{"pull of another's repository", "GET", "/v2/" + theirs + "/blobs/" + helloDigest, all, 401},
		{"upload to another's repository", "POST", "/v2/" + theirs + "/blobs/uploads/", all, 401},
		{"mount from another's repository", "POST", upload + "?mount=" + helloDigest + "&from=" + theirs, all, 401},
		{"a longer name", "POST", "/v2/" + mine + "2/blobs/uploads/", all, 401},
		{"a name below", "POST", "/v2/" + mine + "/below/blobs/uploads/", all, 401},
		{"a shorter name", "GET", "/v2/vi/team/blobs/" + helloDigest, all, 401},
		{"a path that climbs", "GET", "/v2/vi/team/mine/../../../v2/" + theirs + "/blobs/" + helloDigest, all, 401},
		{"catalog", "GET", "/v2/_catalog", all, 401},
		{"tags", "GET", "/v2/" + mine + "/tags/list", "", 401},
		{"manifest without credentials", "GET", "/v2/" + mine + "/manifests/latest", "", 401},
		{"missing manifest", "GET", "/v2/" + mine + "/manifests/latest", pull, 404},
		{"health needs none", "GET", "/healthz", "", 200},
		{"nothing else is served", "GET", "/metrics", "", 404},
		{"delete with delete", "DELETE", blob, deletes, 202},
	} {
		t.Run(tc.title, func(t *testing.T) {
			response := call(t, registry, tc.method, tc.path, tc.credentials, "")
			if response.StatusCode != tc.want {
				t.Errorf("status %d, want %d", response.StatusCode, tc.want)
			}
			challenge := response.Header.Get("WWW-Authenticate")
			if wanted := tc.want == 401; wanted != strings.HasPrefix(challenge, `Basic realm=`) {
				t.Errorf("challenge %q", challenge)
			}
		})
	}
}

// An importer may not delete images, but it cancels its own uploads.
func TestPushMayCancelItsUpload(t *testing.T) {
	registry := dvcrtest.Start(t)
	pushPull := registry.Token(t, mine, "pull", "push")
	started := call(t, registry, http.MethodPost, "/v2/"+mine+"/blobs/uploads/", pushPull, "")
	location := started.Header.Get("Location")
	if !strings.HasPrefix(location, "/v2/") {
		t.Fatalf("location %q is not relative", location)
	}
	if got := call(t, registry, http.MethodDelete, location, registry.Token(t, mine, "pull"), "").StatusCode; got != 401 {
		t.Errorf("cancelled with pull: %d", got)
	}
	if got := call(t, registry, http.MethodDelete, location, registry.Token(t, theirs, "pull", "push"), "").StatusCode; got != 401 {
		t.Errorf("cancelled by another: %d", got)
	}
	if got := call(t, registry, http.MethodDelete, location, pushPull, "").StatusCode; got != 204 {
		t.Errorf("cancel: %d", got)
	}
	// Distribution may write the upload's hash state once more; PurgeIdleUploads takes that away.
	for _, left := range filesUnder(t, registry.Root, "_uploads") {
		if filepath.Base(left) == "data" {
			t.Errorf("left behind: %q", left)
		}
	}
}

func TestBlobsAreServedInRanges(t *testing.T) {
	registry := dvcrtest.Start(t)
	all := registry.Token(t, mine, "pull", "push")
	push(t, registry, mine, all)
	request, err := http.NewRequest(http.MethodGet, "https://"+registry.Address+"/v2/"+mine+"/blobs/"+helloDigest, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("importer", all)
	request.Header.Set("Range", "bytes=1-3")
	response, err := registry.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusPartialContent || string(body) != "ell" {
		t.Errorf("status %d, body %q, %v", response.StatusCode, body, err)
	}
}

func TestNewHandlerNamesWhatIsMissing(t *testing.T) {
	_, verifier := dvcrtest.Keys(t)
	for want, options := range map[string]server.Options{
		"storage directory": {Verifier: verifier, HTTPSecret: "s"},
		"verify":            {Root: t.TempDir(), HTTPSecret: "s"},
		"HTTP secret":       {Root: t.TempDir(), Verifier: verifier},
	} {
		if _, err := server.NewHandler(context.Background(), options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// filesUnder lists the files that have a directory of the given name above them.
func filesUnder(t *testing.T, root, directory string) []string {
	t.Helper()
	var found []string
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && strings.Contains(path, "/"+directory+"/") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
