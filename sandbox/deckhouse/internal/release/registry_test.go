// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// newRegistry is an empty one.
func newRegistry(t *testing.T) Registry {
	t.Helper()
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	return Registry{Module: strings.TrimPrefix(server.URL, "http://") + "/modules/virtualization", Plain: true}
}

// laidOut is the folder of a bundle with a template that tells its version.
func laidOut(t *testing.T, version string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"module.yaml":          "name: virtualization\nrequirements: {deckhouse: '>= 1.0.0'}\n",
		"templates/it.yaml":    "version: " + version + "\n",
		"images_digests.json":  "{}\n",
		"hooks/virtualization": "#!/bin/sh\n",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(name, "hooks/") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func publish(t *testing.T, r Registry, version, channel string) {
	t.Helper()
	if err := r.Publish(t.Context(), laidOut(t, version), version, channel, []byte("features: [more of "+version+"]\n")); err != nil {
		t.Fatal(err)
	}
}

func TestPublishedVersionComesBack(t *testing.T) {
	r := newRegistry(t)
	publish(t, r, "v0.1.0", "EarlyAccess")
	offer, err := r.Offer(t.Context(), "early-access")
	if err != nil || offer.Version.String() != "0.1.0" || !strings.HasPrefix(string(offer.Definition), "name: virtualization") {
		t.Errorf("got %+v, %v", offer, err)
	}
	parent := t.TempDir()
	folder, err := r.Unpack(t.Context(), "v0.1.0", parent)
	if err != nil || filepath.Base(folder) != "v0.1.0" {
		t.Fatal(folder, err)
	}
	// What is there whole is not fetched again, but it may be published again.
	if again, err := r.Unpack(t.Context(), "v0.1.0", parent); err != nil || again != folder {
		t.Errorf("again in %s, %v", again, err)
	}
	if err := r.Publish(t.Context(), laidOut(t, "corrected"), "v0.1.0", "EarlyAccess", nil); err != nil {
		t.Fatal(err)
	}
	if other, err := r.Unpack(t.Context(), "v0.1.0", parent); err != nil || other == folder {
		t.Errorf("what was published again is in %s, %v", other, err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "templates/it.yaml"))
	if err != nil || string(text) != "version: v0.1.0\n" {
		t.Errorf("template %q, %v", text, err)
	}
	// addon-operator knows a hook by its mode.
	if info, err := os.Stat(filepath.Join(folder, "hooks/virtualization")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("hook %v, %v", info, err)
	}
}

func TestChannelHoldsTheLastVersion(t *testing.T) {
	r := newRegistry(t)
	publish(t, r, "v0.1.0", "Alpha")
	publish(t, r, "v0.2.0", "Alpha")
	publish(t, r, "v0.1.0", "Stable")
	for tag, want := range map[string]string{"alpha": "0.2.0", "stable": "0.1.0", "v0.2.0": "0.2.0"} {
		if offer, err := r.Offer(t.Context(), tag); err != nil || offer.Version.String() != want {
			t.Errorf("%s: %v, %v", tag, offer.Version, err)
		}
	}
	if _, err := r.Offer(t.Context(), "rock-solid"); err == nil {
		t.Error("an empty channel holds something")
	}
}

func TestPublishKnowsTheChannels(t *testing.T) {
	err := newRegistry(t).Publish(t.Context(), laidOut(t, "v0.1.0"), "v0.1.0", "Nightly", nil)
	if err == nil || !strings.HasPrefix(err.Error(), `there is no channel "Nightly"`) {
		t.Errorf("got %v", err)
	}
}

// An image is somebody else's: no name in it may lead out of the folder.
func TestUnpackStaysInTheFolder(t *testing.T) {
	r := newRegistry(t)
	bad, err := layer(func(w *tar.Writer) error { return addFile(w, "../escaped", 0o644, []byte("x")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.push(t.Context(), ":v0.1.0", bad); err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	if err := func() error { _, err := r.Unpack(t.Context(), "v0.1.0", parent); return err }(); err == nil {
		t.Error("unpacked")
	}
	if found, err := filepath.Glob(filepath.Join(parent, "*", "escaped")); err != nil || len(found) > 0 {
		t.Errorf("escaped to %v, %v", found, err)
	}
}

func TestOfferRefusesWhatIsNoVersion(t *testing.T) {
	r := newRegistry(t)
	for name, text := range map[string]string{"word": `{"version":"newest"}`, "broken": `{`} {
		image, err := layer(func(w *tar.Writer) error { return addFile(w, "version.json", 0o644, []byte(text)) })
		if err != nil {
			t.Fatal(err)
		}
		if err := r.push(t.Context(), "/release:"+name, image); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Offer(t.Context(), name); err == nil || !strings.Contains(err.Error(), "version.json of ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
