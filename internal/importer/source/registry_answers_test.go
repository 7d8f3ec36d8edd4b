// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	schema1     = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// answer is what a registry sends for a path.
type answer struct{ mediaType, content string }

// answering is a registry that has nothing but the answers, by the ends of paths.
func answering(t testing.TB, answers map[string]answer) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for end, a := range answers {
			if strings.HasSuffix(r.URL.Path, end) {
				w.Header().Set("Content-Type", a.mediaType)
				_, _ = w.Write([]byte(a.content))
				return
			}
		}
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// What comes whole and is no container image does not become one when it is asked
// for again.
func TestRegistryThatSendsSomethingElse(t *testing.T) {
	const page = "<html>Sign in</html>"
	child := `{"schemaVersion":2,"layers":[]}`
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"size":%d,"digest":%q,"platform":{"os":"linux","architecture":%q}}]}`,
		ociManifest, len(child), digestOf(child), runtime.GOARCH)
	const remedy = ": check registry, repository and tag"
	for _, tc := range []struct {
		title   string
		answers map[string]answer
		reason  string
		message string
	}{
		{"a web page for everything", map[string]answer{"": {"text/html", page}}, "FormatNotSupported", "is no manifest of a container image (invalid character '<'"},
		{"a web page as a manifest", map[string]answer{"/12": {ociManifest, page}}, "FormatNotSupported", remedy},
		{"nothing as a manifest", map[string]answer{"/12": {ociManifest, ""}}, "FormatNotSupported", remedy},
		{"half a manifest", map[string]answer{"/12": {ociManifest, `{"schemaVersion":2,"layers":[`}}, "FormatNotSupported", remedy},
		{"layers of another type", map[string]answer{"/12": {ociManifest, `{"layers":"none"}`}}, "FormatNotSupported", remedy},
		{"a layer without a digest", map[string]answer{"/12": {ociManifest, `{"layers":[{"digest":"none"}]}`}}, "FormatNotSupported", remedy},
		{"a manifest of the first version", map[string]answer{"/12": {schema1, `{"schemaVersion":1}`}}, "FormatNotSupported", remedy},
		{"too long a manifest", map[string]answer{"/12": {ociManifest, `{"x":"` + strings.Repeat("x", maxManifest) + `"}`}},
			"FormatNotSupported", "(it is longer than 8388608 bytes)" + remedy},
		{"a web page as an index", map[string]answer{"/12": {ociIndex, page}}, "FormatNotSupported", remedy},
		{"an index of another manifest", map[string]answer{"/12": {ociIndex, index}, digestOf(child): {ociManifest, child + " "}},
			"ImageCorrupt", "the registry sends a manifest with the digest " + digestOf(child+" ") + " instead of " + digestOf(child) +
				": push the container image anew, or name another one"},
		{"an index of a web page", map[string]answer{"/12": {ociIndex, index}, digestOf(child): {"text/html", page}},
			"ImageCorrupt", " instead of " + digestOf(child)},
	} {
		t.Run(tc.title, func(t *testing.T) {
			_, _, err := readRegistry(t, registryOptions(answering(t, tc.answers)))
			wantError(t, err, tc.reason, true, "image", tc.message)
		})
	}
}

// An image that is named by its digest is that one, wherever its manifest lies.
func TestManifestIsComparedWithTheReference(t *testing.T) {
	wanted, other := `{"schemaVersion":2,"layers":[]}`, `{"schemaVersion":2,"layers":[],"annotations":{}}`
	named := func(address string) RegistryOptions {
		return RegistryOptions{Image: "docker://" + address + "/team/debian@" + digestOf(wanted), Timing: options("")}
	}
	_, _, err := readRegistry(t, named(answering(t, map[string]answer{digestOf(wanted): {ociManifest, wanted}})))
	wantError(t, err, "FormatNotSupported", true, "image", "holds no file in /disk")
	_, _, err = readRegistry(t, named(answering(t, map[string]answer{digestOf(wanted): {ociManifest, other}})))
	wantError(t, err, "ImageCorrupt", true, "image", digestOf(other)+" instead of "+digestOf(wanted))

	elsewhere := answering(t, map[string]answer{"/store/1": {ociManifest, other}})
	redirecting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, "http://"+elsewhere+"/store/1", http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(redirecting.Close)
	_, _, err = readRegistry(t, named(strings.TrimPrefix(redirecting.URL, "http://")))
	wantError(t, err, "ImageCorrupt", true, "image", digestOf(other)+" instead of "+digestOf(wanted))
}

// A manifest that is cut off on its way may come whole the next time.
func TestManifestThatIsCutOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"schemaVersion":2`))
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(server.Close)
	_, _, err := readRegistry(t, registryOptions(strings.TrimPrefix(server.URL, "http://")))
	wantError(t, err, "SourceUnreachable", false, "image", "cannot be reached")
}

func TestTokenServerThatIsNone(t *testing.T) {
	var address string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte("<html>Sign in</html>"))
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+address+`/token",service="images"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(server.Close)
	address = strings.TrimPrefix(server.URL, "http://")
	_, _, err := readRegistry(t, registryOptions(address))
	wantError(t, err, "SourceUnreachable", true, "image", "with something else than a token (invalid character '<'")
}
