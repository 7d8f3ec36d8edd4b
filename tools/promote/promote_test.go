// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	fakeregistry "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"sigs.k8s.io/yaml"
)

// world is a registry that speaks the real protocol, and a repository.
type world struct {
	t    *testing.T
	tool tool
	out  *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server := httptest.NewServer(fakeregistry.New(fakeregistry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	out := &bytes.Buffer{}
	w := &world{t: t, out: out, tool: tool{
		root: t.TempDir(), address: strings.TrimPrefix(server.URL, "http://") + "/modules/virtualization", now: date("2026-02-20"), out: out,
	}}
	w.write("module.yaml", "name: virtualization\n")
	w.write("release.yaml", "# comment\nversion: v1.2.3\n")
	w.write("CHANGELOG/releases.yaml", "- {version: v1.2.3, released: 2026-02-01}\n- {version: v1.2.2, released: 2026-01-01}\n")
	w.write("CHANGELOG/v1.2.3.yaml", "# comment\nfeatures: [new]\nfixes: [better]\n")
	w.write("CHANGELOG/v1.2.2.yaml", "fixes: [good]\n")
	return w
}

func (w *world) write(path, content string) {
	w.t.Helper()
	path = filepath.Join(w.tool.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// push publishes an image of one file and returns its digest. One with a name that begins with @ has only that.
func (w *world) push(reference, file, content string) string {
	w.t.Helper()
	var layer bytes.Buffer
	files := tar.NewWriter(&layer)
	if err := files.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content))}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := files.Write([]byte(content)); err != nil {
		w.t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		w.t.Fatal(err)
	}
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		w.t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, made)
	if err != nil {
		w.t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	if strings.HasPrefix(reference, "@") {
		reference = "@" + digest.String()
	}
	to, err := name.ParseReference(w.tool.address + reference)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.Write(to, image); err != nil {
		w.t.Fatal(err)
	}
	return digest.String()
}

// publish does what the build of a release does.
func (w *world) publish(versions ...string) {
	w.t.Helper()
	for _, version := range versions {
		image := w.push("@dvcr", "dvcr", version)
		w.push(":"+version, "images_digests.json", fmt.Sprintf(`{"dvcr":%q}`, image))
		w.push("/release:"+version, "version.json", fmt.Sprintf(`{"version":%q}`, version))
	}
}

// run returns what the command prints.
func (w *world) run(args ...string) (string, error) {
	w.t.Helper()
	w.out.Reset()
	err := w.tool.run(w.t.Context(), args)
	return w.out.String(), err
}

func (w *world) succeed(want string, args ...string) {
	w.t.Helper()
	if got, err := w.run(args...); err != nil || got != want {
		w.t.Errorf("%v = %q, %v, want %q", args, got, err, want)
	}
}

func (w *world) fail(want string, args ...string) {
	w.t.Helper()
	if got, err := w.run(args...); err == nil || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%v = %q, %v, want an error that says %q", args, got, err, want)
	}
}

func TestAVersionGoesThroughTheChannels(t *testing.T) {
	w := newWorld(t)
	w.publish("v1.2.2", "v1.2.3")
	w.succeed("Alpha        nothing\nBeta         nothing\nEarlyAccess  nothing\nStable       nothing\nRockSolid    nothing\n", "status")
	w.fail("Alpha holds nothing", "perform", "v1.2.3", "Beta")

	w.succeed("v1.2.2 may come to Alpha, which has nothing\n", "check", "v1.2.2", "Alpha")
	w.succeed("Alpha has v1.2.2 now; it had nothing\n", "perform", "v1.2.2", "Alpha")
	w.succeed("Alpha has v1.2.3 now; it had v1.2.2\n", "perform", "v1.2.3", "alpha")
	w.succeed("Alpha has v1.2.3 already\n", "perform", "v1.2.3", "Alpha")
	w.fail("clusters are not taken back", "perform", "v1.2.2", "Alpha")

	w.succeed("Beta has v1.2.3 now; it had nothing\n", "perform", "v1.2.3", "Beta")
	w.succeed("EarlyAccess has v1.2.3 now; it had nothing\n", "perform", "v1.2.3", "EarlyAccess")
	w.succeed("Stable has v1.2.3 now; it had nothing\n", "perform", "v1.2.3", "Stable")
	w.fail("may come to RockSolid on 2026-03-01: wait", "perform", "v1.2.3", "RockSolid")
	w.tool.now = date("2026-03-01")
	w.succeed("RockSolid has v1.2.3 now; it had nothing\n", "perform", "v1.2.3", "RockSolid")
	w.succeed("Alpha        v1.2.3\nBeta         v1.2.3\nEarlyAccess  v1.2.3\nStable       v1.2.3\nRockSolid    v1.2.3\n", "status")
}

// A check leaves the registry as it is.
func TestCheckChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.publish("v1.2.3")
	w.succeed("v1.2.3 may come to Alpha, which has nothing\n", "check", "v1.2.3", "Alpha")
	if got, err := w.run("status"); err != nil || !strings.HasPrefix(got, "Alpha        nothing\n") {
		t.Errorf("status = %q, %v, want nothing in Alpha", got, err)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	tests := []struct {
		name string
		lay  func(*world)
		args string
		want string
	}{
		{"nothing published", func(*world) {}, "check v1.2.3 Alpha", "build and push them first"},
		{"no bundle", func(w *world) { w.push("/release:v1.2.3", "version.json", `{"version":"v1.2.3"}`) }, "check v1.2.3 Alpha", "build and push them first"},
		{"image that is not there", func(w *world) {
			w.publish("v1.2.3")
			w.push(":v1.2.3", "images_digests.json", `{"dvcr":"sha256:`+strings.Repeat("0", 64)+`"}`)
		}, "check v1.2.3 Alpha", "lacks images that the bundle of v1.2.3 names, dvcr: push them first"},
		{"bundle without its images", func(w *world) { w.push(":v1.2.3", "module.yaml", "x") }, "check v1.2.3 Alpha", "has no images_digests.json"},
		{"image without a digest", func(w *world) { w.push(":v1.2.3", "images_digests.json", `{"dvcr":"latest"}`) }, "check v1.2.3 Alpha", "images_digests.json: dvcr: "},
		{"other version inside", func(w *world) {
			w.publish("v1.2.3")
			w.push("/release:v1.2.3", "version.json", `{"version":"v9.9.9"}`)
		}, "check v1.2.3 Alpha", `says that it is "v9.9.9"`},
		{"no version.json", func(w *world) { w.push("/release:v1.2.3", "./version.json", `{}`) }, "check v1.2.3 Alpha", "has no version.json"},
		{"version.json without a version", func(w *world) { w.push("/release:v1.2.3", "version.json", `{}`) }, "check v1.2.3 Alpha", "no version in it"},
		{"version.json is none", func(w *world) { w.push("/release:v1.2.3", "version.json", `v1.2.3`) }, "check v1.2.3 Alpha", "version.json: "},
		{"empty changelog", func(w *world) { w.publish("v1.2.3"); w.write("CHANGELOG/v1.2.3.yaml", "# nothing\n") }, "check v1.2.3 Alpha", "no CHANGELOG/v1.2.3.yaml"},
		{"changelog with other words", func(w *world) { w.publish("v1.2.3"); w.write("CHANGELOG/v1.2.3.yaml", "news: [x]\n") }, "check v1.2.3 Alpha", `unknown field "news"`},
		{"day that is none", func(w *world) { w.write("CHANGELOG/releases.yaml", "- {version: v1.2.3, released: soon}\n") }, "check v1.2.3 Alpha", "the day of v1.2.3"},
		{"no such channel", func(*world) {}, "check v1.2.3 Gamma", `there is no channel "Gamma"`},
		{"no version", func(*world) {}, "check latest Alpha", `"latest" is no version of a release`},
		{"no command", func(*world) {}, "", "say one of"},
		{"no registry", func(w *world) { w.tool.address = "" }, "status", "-registry: "},
		{"version to make files for", func(w *world) { w.write("release.yaml", "version: next\n") }, "files out", `"next" is no version`},
		{"files without a changelog", func(w *world) { w.write("release.yaml", "version: v2.0.0\n") }, "files out", "there is no CHANGELOG/v2.0.0.yaml"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			test.lay(w)
			w.fail(test.want, strings.Fields(test.args)...)
		})
	}
}

func TestFilesOfARelease(t *testing.T) {
	w := newWorld(t)
	folder := filepath.Join(t.TempDir(), "release")
	w.succeed("", "files", folder)
	for file, want := range map[string]string{
		"version.json": `{"version":"v1.2.3"}`, "changelog.yaml": "features:\n- new\nfixes:\n- better\n",
	} {
		content, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil || string(content) != want {
			t.Errorf("%s = %q, %v, want %q", file, content, err, want)
		}
	}
}

// The repository itself can be released at any time.
func TestThisRepositoryHasWhatAReleaseNeeds(t *testing.T) {
	root := filepath.Join("..", "..")
	if err := writeFiles(root, t.TempDir()); err != nil {
		t.Error(err)
	}
	if _, err := readReleased(root, "v0.0.0"); err != nil {
		t.Error(err)
	}
	if _, err := readUpdates(root); err != nil {
		t.Error(err)
	}
}

// Administrators learn from the notes of a version which KubeVirt it brings: there is no way back from another one.
func TestReleaseNotesNameTheEngine(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(path ...string) string {
		content, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	var next release
	if err := yaml.Unmarshal([]byte(read("release.yaml")), &next); err != nil {
		t.Fatal(err)
	}
	for _, notes := range []string{"RELEASE_NOTES.md", "RELEASE_NOTES.ru.md"} {
		_, section, found := strings.Cut(read("docs", notes), "\n## "+next.Version+"\n")
		if !found {
			t.Errorf("%s has nothing about %s", notes, next.Version)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for name, pin := range map[string][2]string{
			"KubeVirt": {"kubevirt", "kubevirt.io/kubevirt v"}, "CDI": {"cdi", "kubevirt.io/containerized-data-importer v"},
		} {
			_, rest, pinned := strings.Cut(read("third_party", pin[0], "go.mod"), pin[1])
			version := strings.Fields(rest)
			if !pinned || len(version) == 0 || !strings.Contains(section, name+" "+version[0]) {
				t.Errorf("%s does not name the %s of %s", notes, name, next.Version)
			}
		}
	}
}
