// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	debian = "vi/team/debian"
	alpine = "cvi/alpine"
	uid    = "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	newUID = "5c1b8a7e-1f0e-4f5e-8d8e-6f2f8b1c9d22"
)

// diskOf is the layer of a small raw disk; disks of different numbers differ.
func diskOf(t testing.TB, number int) []byte {
	t.Helper()
	content := make([]byte, 512*(1+number%7))
	content[0] = byte(number)
	content[510], content[511] = 0x55, 0xaa
	layer, err := dvcr.Disk{Size: int64(len(content)), Format: "raw"}.Layer(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(layer)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// client pushes step by step, so that a test can do something in between. It
// calls the registry's handler itself, which is faster than a connection.
type client struct {
	handler http.Handler
	token   string
}

func newClient(t testing.TB, registry *dvcrtest.Registry, subject string, access ...token.Access) *client {
	t.Helper()
	signed, err := registry.Issuer.Issue(subject, access, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &client{handler: registry.Server.Config.Handler, token: signed}
}

func (c *client) do(method, path string, body []byte, contentType string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, bytes.NewReader(body))
	request.SetBasicAuth("importer", c.token)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response := httptest.NewRecorder()
	c.handler.ServeHTTP(response, request)
	return response
}

// expect makes an error of an answer with another status.
func expect(doing string, response *httptest.ResponseRecorder, statuses ...int) error {
	for _, status := range statuses {
		if response.Code == status {
			return nil
		}
	}
	return fmt.Errorf("%s: status %d: %s", doing, response.Code, strings.TrimSpace(response.Body.String()))
}

// has asks whether the repository has the blob.
func (c *client) has(repository string, blob []byte) (bool, error) {
	response := c.do("HEAD", "/v2/"+repository+"/blobs/"+digest.FromBytes(blob).String(), nil, "")
	return response.Code == 200, expect("look for a blob", response, 200, 404)
}

// upload pushes a blob in two pieces.
func (c *client) upload(repository string, blob []byte) error {
	started := c.do("POST", "/v2/"+repository+"/blobs/uploads/", nil, "")
	if err := expect("begin an upload", started, 202); err != nil {
		return err
	}
	half := len(blob) / 2
	first := c.do("PATCH", started.Header().Get("Location"), blob[:half], "application/octet-stream")
	if err := expect("send a piece", first, 202); err != nil {
		return err
	}
	last := c.do("PUT", first.Header().Get("Location")+"&digest="+digest.FromBytes(blob).String(), blob[half:], "application/octet-stream")
	return expect("finish an upload", last, 201)
}

// mount takes a blob over from another repository; false if that has none.
func (c *client) mount(repository, from string, blob []byte) (bool, error) {
	response := c.do("POST", "/v2/"+repository+"/blobs/uploads/?mount="+digest.FromBytes(blob).String()+"&from="+from, nil, "")
	if response.Code == 202 {
		return false, expect("cancel an upload", c.do("DELETE", response.Header().Get("Location"), nil, ""), 204)
	}
	return true, expect("mount a blob", response, 201)
}

// manifestOf is the manifest and the configuration of an image.
func manifestOf(layer []byte, owner string) (manifest, config []byte) {
	config, _ = json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Labels": map[string]string{dvcr.LabelOwner: owner}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromBytes(layer).String()}},
	})
	describe := func(mediaType string, blob []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": digest.FromBytes(blob).String(), "size": len(blob)}
	}
	manifest, _ = json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        describe("application/vnd.oci.image.config.v1+json", config),
		"layers":        []any{describe("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	return manifest, config
}

// publish pushes what goes around a layer; the reference is a tag or the
// manifest's digest.
func (c *client) publish(repository, reference string, layer []byte, owner string) error {
	manifest, config := manifestOf(layer, owner)
	if err := c.upload(repository, config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	response := c.do("PUT", "/v2/"+repository+"/manifests/"+reference, manifest, "application/vnd.oci.image.manifest.v1+json")
	return expect("put a manifest", response, 201)
}

func (c *client) push(repository string, layer []byte) error {
	if err := c.upload(repository, layer); err != nil {
		return err
	}
	return c.publish(repository, uid, layer, uid)
}

// pull reads the whole image and compares it.
func (c *client) pull(repository, tag string, layer []byte) error {
	return c.pullOf(repository, tag, layer, tag)
}

// pullOf is pull of an image whose tag is not its owner.
func (c *client) pullOf(repository, tag string, layer []byte, owner string) error {
	want, config := manifestOf(layer, owner)
	manifest := c.do("GET", "/v2/"+repository+"/manifests/"+tag, nil, "")
	if err := expect("get a manifest", manifest, 200); err != nil {
		return err
	}
	if !bytes.Equal(manifest.Body.Bytes(), want) {
		return fmt.Errorf("another manifest: %s", manifest.Body)
	}
	for _, blob := range [][]byte{layer, config} {
		response := c.do("GET", "/v2/"+repository+"/blobs/"+digest.FromBytes(blob).String(), nil, "")
		if err := expect("get a blob", response, 200); err != nil {
			return err
		}
		if !bytes.Equal(response.Body.Bytes(), blob) {
			return fmt.Errorf("another blob of %d bytes", response.Body.Len())
		}
	}
	return nil
}

func (c *client) deleteImage(repository string, layer []byte, owner string) error {
	manifest, _ := manifestOf(layer, owner)
	response := c.do("DELETE", "/v2/"+repository+"/manifests/"+digest.FromBytes(manifest).String(), nil, "")
	return expect("delete a manifest", response, 202)
}

// importer may do what an importer's token permits.
func importer(t testing.TB, registry *dvcrtest.Registry, repository string) *client {
	t.Helper()
	return newClient(t, registry, "VirtualImage/team/debian/"+uid, token.Repository(repository, "pull", "push"))
}

// controller may pull and delete, as the controller's client does.
func controller(t testing.TB, registry *dvcrtest.Registry, repository string) *client {
	t.Helper()
	return newClient(t, registry, token.IssuerName, token.Repository(repository, "pull", "delete"))
}

// stored lists the files of the registry, without the names of uploads.
func stored(t testing.TB, registry *dvcrtest.Registry) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(registry.Root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, strings.TrimPrefix(path, registry.Root+"/docker/registry/v2/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
