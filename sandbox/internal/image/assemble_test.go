// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fakeInputs makes inputs out of strings; the key of each is its content.
type fakeInputs struct {
	dir      string
	contents map[string]string
	root     string
	asked    []Program
}

func (f *fakeInputs) artifact(name string) (Artifact, error) {
	content, found := f.contents[name]
	if !found {
		return Artifact{}, errors.New("no such input: " + name)
	}
	path := filepath.Join(f.dir, strings.ReplaceAll(name, "/", "_"))
	return Artifact{Path: path, Key: content}, os.WriteFile(path, []byte(content), 0o644)
}

func (f *fakeInputs) Programs(_ context.Context, programs []Program) (map[Program]Artifact, error) {
	f.asked = append(f.asked, programs...)
	made := map[Program]Artifact{}
	for _, program := range programs {
		artifact, err := f.artifact(program.Package)
		if err != nil {
			return nil, err
		}
		made[program] = artifact
	}
	return made, nil
}

func (f *fakeInputs) CProgram(_ context.Context, _, source string) (Artifact, error) {
	return f.artifact(source)
}

func (f *fakeInputs) ModuleFile(_ context.Context, _, source string) (Artifact, error) {
	return f.artifact(source)
}

func (f *fakeInputs) PackageRoot(context.Context, string, []string) (Artifact, error) {
	return Artifact{Path: f.root, Key: "root"}, nil
}

// fakeStore keeps folders by their full key and counts how many were made.
type fakeStore struct {
	dir  string
	made []string
}

func (f *fakeStore) Ensure(ctx context.Context, kind, name, key string, create func(context.Context, string) error) (string, error) {
	dir := filepath.Join(f.dir, kind, name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f.made = append(f.made, name)
	return dir, create(ctx, dir)
}

// newAssembler prepares an assembler over a base, two images on it and one alone.
func newAssembler(t *testing.T) (*Assembler, *fakeInputs, *fakeStore) {
	t.Helper()
	dir := t.TempDir()
	writeDefinition(t, dir, "base-x", `
description: A base
baseOnly: true
debian: {suite: trixie, packages: [bash]}
files: [{source: script.sh, path: /usr/bin/script, mode: "0755"}]
`)
	if err := os.WriteFile(filepath.Join(dir, "base-x", "script.sh"), []byte("script"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		writeDefinition(t, dir, name, strings.ReplaceAll(`
description: An image
base: base-x
build: [{module: third_party/x, package: example.org/NAME, path: /usr/bin/NAME}]
config: {entrypoint: [/usr/bin/NAME], user: "1:1", env: [A=b]}
`, "NAME", name))
	}
	writeDefinition(t, dir, "alone", `
description: An image of its own
build: [{module: third_party/x, cSource: example.org/c/main.c, path: /c}]
files: [{module: third_party/x, source: example.org/f, path: /f}]
config: {entrypoint: [/c]}
`)
	set, err := LoadSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	inputs := &fakeInputs{dir: t.TempDir(), root: writeRoot(t, someRoot...), contents: map[string]string{
		"example.org/one": "1", "example.org/two": "2", "example.org/c/main.c": "c", "example.org/f": "f",
	}}
	store := &fakeStore{dir: t.TempDir()}
	return &Assembler{
		Set: set, Inputs: inputs, Store: store, Progress: func(string) {},
		References: func(name, digest string) []string { return []string{"registry/" + name + "@" + digest} },
	}, inputs, store
}

// blobs reads an archive into its index and blobs.
func blobs(t *testing.T, archive string) (v1.IndexManifest, map[string][]byte) {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	members := map[string][]byte{}
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[header.Name] != nil {
			t.Errorf("%s is in the archive twice", header.Name)
		}
		if members[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(members["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if string(members["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %q", members["oci-layout"])
	}
	return index, members
}

func TestAssembleSharesTheBase(t *testing.T) {
	assembler, inputs, _ := newAssembler(t)
	images, err := assembler.Assemble(t.Context(), "one", "two", "alone")
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 3 || images[0].Name != "alone" || images[1].Archive != images[2].Archive || images[0].Archive == images[1].Archive {
		t.Fatalf("images are %+v", images)
	}
	if want := []Program{{"third_party/x", "example.org/one"}, {"third_party/x", "example.org/two"}}; !slices.Equal(inputs.asked, want) {
		t.Errorf("programs asked for: %v, want %v", inputs.asked, want)
	}
	index, members := blobs(t, images[1].Archive)
	if len(index.Manifests) != 2 {
		t.Fatalf("the index is %+v", index)
	}
	// Two layers of the base, one of each image, two configurations, two
	// manifests, the index and the mark of the layout.
	if len(members) != 10 {
		t.Errorf("the archive has %d members, want 10", len(members))
	}
	first := index.Manifests[0]
	if got, want := first.Annotations["io.containerd.image.name"], "registry/one@"+images[1].Digest; got != want {
		t.Errorf("containerd's name is %q, want %q", got, want)
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(members[blobName(first.Digest)], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 3 || manifest.Layers[0].MediaType != "application/vnd.oci.image.layer.v1.tar" {
		t.Errorf("the layers are %+v", manifest.Layers)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(members[blobName(manifest.Config.Digest)], &config); err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "1:1" || config.Config.Entrypoint[0] != "/usr/bin/one" || !slices.Contains(config.Config.Env, "A=b") {
		t.Errorf("the configuration is %+v", config.Config)
	}
	if len(config.RootFS.DiffIDs) != 3 || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("the diff IDs are %v", config.RootFS.DiffIDs)
	}
}

func TestAssembleMakesOnlyWhatChanged(t *testing.T) {
	assembler, inputs, store := newAssembler(t)
	assemble := func(names ...string) []Image {
		t.Helper()
		images, err := assembler.Assemble(t.Context(), names...)
		if err != nil {
			t.Fatal(err)
		}
		return images
	}
	before := assemble("one", "two", "alone")
	if again := assemble("one", "two", "alone"); len(store.made) != 2 || again[0].Digest != before[0].Digest {
		t.Errorf("the second run made %v", store.made[2:])
	}

	inputs.contents["example.org/c/main.c"] = "changed"
	after := assemble("one", "two", "alone")
	if !slices.Equal(store.made[2:], []string{"alone"}) {
		t.Errorf("a change of one image made %v", store.made[2:])
	}
	if after[0].Digest == before[0].Digest || after[1].Digest != before[1].Digest {
		t.Errorf("digests before %v and after %v", Digests(before), Digests(after))
	}

	script := filepath.Join(assembler.Set.definitions["base-x"].Dir, "script.sh")
	if err := os.WriteFile(script, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if last := assemble("one", "two", "alone"); last[1].Digest == after[1].Digest || last[2].Digest == after[2].Digest {
		t.Error("a change of the base left an image as it was")
	}
}

func TestAssembleIsReproducible(t *testing.T) {
	first, _, _ := newAssembler(t)
	second, _, _ := newAssembler(t)
	for _, name := range []string{"alone", "one"} {
		a, err := first.Assemble(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := second.Assemble(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if a[0].Digest != b[0].Digest {
			t.Errorf("%s has the digests %s and %s", name, a[0].Digest, b[0].Digest)
		}
	}
}

func TestAssembleSaysWhatIsMissing(t *testing.T) {
	assembler, inputs, _ := newAssembler(t)
	if _, err := assembler.Assemble(t.Context(), "three"); err == nil || !strings.Contains(err.Error(), `no image is called "three"`) {
		t.Errorf("got error %v", err)
	}
	delete(inputs.contents, "example.org/f")
	if _, err := assembler.Assemble(t.Context(), "alone"); err == nil || !strings.Contains(err.Error(), "alone/image.yaml: files[0]: no such input") {
		t.Errorf("got error %v", err)
	}
	delete(inputs.contents, "example.org/one")
	if _, err := assembler.Assemble(t.Context(), "one"); err == nil {
		t.Error("a missing program went unnoticed")
	}
}

func TestDigests(t *testing.T) {
	got := Digests([]Image{{Name: "virt-handler", Digest: "sha256:1"}, {Name: "dvcr", Digest: "sha256:2"}})
	if len(got) != 2 || got["virtHandler"] != "sha256:1" || got["dvcr"] != "sha256:2" {
		t.Errorf("got %v", got)
	}
}
