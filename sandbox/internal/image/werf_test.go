// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// werfFiles is what werf's templates know as .Files.
type werfFiles struct{ root string }

// Get returns the content of a file.
func (f werfFiles) Get(name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(f.root, name))
	return string(content), err
}

// Glob returns the contents of all files that match, by name.
func (f werfFiles) Glob(pattern string) (map[string]string, error) {
	names, err := filepath.Glob(filepath.Join(f.root, pattern))
	if err != nil {
		return nil, err
	}
	contents := map[string]string{}
	for _, name := range names {
		relative, err := filepath.Rel(f.root, name)
		if err != nil {
			return nil, err
		}
		if contents[relative], err = f.Get(relative); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// renderWerf renders werf.yaml with the functions that werf has, and returns its
// documents.
func renderWerf(t *testing.T, root string) []map[string]any {
	t.Helper()
	set := template.New("werf").Option("missingkey=error")
	functions := sprig.TxtFuncMap()
	functions["env"] = func(name string, fallback ...string) string { return strings.Join(fallback, "") }
	functions["fromYaml"] = func(content string) (map[string]any, error) {
		value := map[string]any{}
		return value, yaml.Unmarshal([]byte(content), &value)
	}
	functions["include"] = func(name string, data any) (string, error) {
		var out bytes.Buffer
		err := set.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	set.Funcs(functions).Option("missingkey=default")
	templates, err := filepath.Glob(filepath.Join(root, ".werf", "*.tmpl"))
	if err != nil || len(templates) == 0 {
		t.Fatalf("found the templates %v, %v", templates, err)
	}
	for _, file := range append(templates, filepath.Join(root, "werf.yaml")) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := set.New(filepath.Base(file)).Parse(string(content)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := set.ExecuteTemplate(&out, "werf.yaml", map[string]any{"Files": werfFiles{root}}); err != nil {
		t.Fatal(err)
	}
	return documents(t, out.Bytes())
}

func documents(t *testing.T, content []byte) []map[string]any {
	t.Helper()
	var parsed []map[string]any
	reader := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(content)))
	defer reader.Close()
	buffer := make([]byte, len(content)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return parsed
		}
		if err != nil {
			t.Fatal(err)
		}
		document := map[string]any{}
		if err := yaml.UnmarshalStrict(buffer[:n], &document); err != nil {
			t.Fatalf("%v in\n%s", err, buffer[:n])
		}
		parsed = append(parsed, document)
	}
}

// TestWerfBuildsEveryImage renders the release's build and compares it with what
// the sandbox assembles from the same definitions.
func TestWerfBuildsEveryImage(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	set, err := LoadSet(filepath.Join(root, "images"))
	if err != nil {
		t.Fatal(err)
	}
	rendered := renderWerf(t, root)
	if rendered[0]["project"] != "virtualization" {
		t.Errorf("the first document is %v", rendered[0])
	}
	images, final := byName(t, rendered[1:])
	want := append(set.Runnable(), "bundle", "client", "release-channel-version", "sbom")
	slices.Sort(want)
	if !slices.Equal(final, want) {
		t.Errorf("released images are %v, want %v", final, want)
	}
	for name, document := range images {
		for _, needed := range neededImages(document) {
			if images[needed] == nil {
				t.Errorf("image %q needs %q, which is not there", name, needed)
			}
		}
	}
	if images["build/third_party/kubernetes"] != nil {
		t.Error("a release would build the sandbox's Kubernetes")
	}
	launcher := images["virt-launcher"]
	if launcher["fromImage"] != "base-engine" || strings.Contains(toText(t, launcher), "<no value>") {
		t.Errorf("virt-launcher is %v", launcher)
	}
	expectIn(t, "virt-launcher's tree", toText(t, images["tree/virt-launcher"]),
		"install -D -m 0755 /from/build/third_party/kubevirt/out/virt-launcher /image/usr/bin/virt-launcher",
		"setcap cap_net_bind_service=ep /image/usr/bin/virt-launcher-monitor",
		"gcc -O2 -static -s -o /image/usr/bin/container-disk /from/build/third_party/kubevirt/sources/kubevirt.io/kubevirt/cmd/container-disk-v2alpha/main.c",
	)
	expectIn(t, "the build of KubeVirt", toText(t, images["build/third_party/kubevirt"]),
		"CGO_ENABLED=1", "-tags \"selinux\"", "gitVersion=v1.8.4", "source=kubevirt.io/kubevirt/cmd/virt-launcher/qemu.conf",
	)
	if own := toText(t, images["dvcr"]); !strings.Contains(own, "64535:64535") || images["dvcr"]["from"] != "scratch" {
		t.Errorf("dvcr is %s", own)
	}
}

// A bundle whose digests lack an image is one that Helm refuses to render.
func TestBundleKnowsEveryImage(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	set, err := LoadSet(filepath.Join(root, "images"))
	if err != nil {
		t.Fatal(err)
	}
	images, _ := byName(t, renderWerf(t, root)[1:])
	tree := images["tree/bundle"]
	digests := map[string]string{}
	for _, entry := range tree["dependencies"].([]any) {
		dependency := entry.(map[string]any)
		given := dependency["imports"].([]any)[0].(map[string]any)
		if given["type"] != "ImageDigest" || dependency["before"] != "setup" {
			t.Errorf("the bundle takes %v", dependency)
		}
		digests[dependency["image"].(string)] = given["targetEnv"].(string)
	}
	script := toText(t, tree["shell"])
	for _, name := range set.Runnable() {
		want := `"` + CamelCase(name) + `":"%s"' "$` + digests[name] + `"`
		if digests[name] == "" || strings.Count(script, want) != 1 {
			t.Errorf("the bundle does not write %s:\n%s", want, script)
		}
	}
	if len(digests) != len(set.Runnable()) {
		t.Errorf("the bundle has %d digests, want %d", len(digests), len(set.Runnable()))
	}
	for name, from := range map[string]string{"bundle": "tree/bundle", "release-channel-version": "build/release"} {
		if images[name]["from"] != "scratch" || !slices.Equal(neededImages(images[name]), []string{from}) {
			t.Errorf("%s is %v", name, images[name])
		}
	}
}

// What Deckhouse looks for in a bundle and in a release image, by name: a part that is
// missing is not an error there, it just has no effect.
func TestReleasedImagesHoldWhatDeckhouseReads(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	images, _ := byName(t, renderWerf(t, root)[1:])
	sources := func(image string) []string {
		var paths []string
		for _, entry := range images[image]["git"].([]any) {
			for _, path := range entry.(map[string]any)["includePaths"].([]any) {
				paths = append(paths, path.(string))
			}
		}
		return paths
	}
	bundle := sources("tree/bundle")
	for _, part := range []string{
		".helmignore", "Chart.yaml", "charts", "crds", "docs", "module.yaml", "monitoring", "openapi", "oss.yaml", "templates",
	} {
		if !slices.Contains(bundle, part) {
			t.Errorf("the bundle lacks %s", part)
		}
		if _, err := os.Stat(filepath.Join(root, part)); err != nil {
			t.Errorf("the bundle takes what is not there: %v", err)
		}
	}
	// Sources of the hooks would be taken for hooks; their program is what runs.
	if slices.Contains(bundle, "hooks") {
		t.Error("the bundle has the sources of the hooks")
	}
	expectIn(t, "the bundle's imports", toText(t, images["tree/bundle"]["import"]), "/bundle/hooks/virtualization-hooks", "build/hooks")
	expectIn(t, "the bundle's script", toText(t, images["tree/bundle"]["shell"]), "/bundle/images_digests.json")
	for _, needed := range []string{"CHANGELOG", "module.yaml", "release.yaml"} {
		if !slices.Contains(sources("build/release"), needed) {
			t.Errorf("the release image is made without %s", needed)
		}
	}
	// version.json and changelog.yaml are written by the tool, whose tests know their content.
	expectIn(t, "the release image's script", toText(t, images["build/release"]["shell"]), "files /release", "cp /src/module.yaml /release/")
}

// Every program and every package of an image has to be told of.
func TestSBOMIsToldOfEveryInput(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	set, err := LoadSet(filepath.Join(root, "images"))
	if err != nil {
		t.Fatal(err)
	}
	images, _ := byName(t, renderWerf(t, root)[1:])
	script := toText(t, images["tree/sbom"]["shell"])
	wanted := []string{"-programs .=/programs/own", "-programs third_party/kubevirt=/programs/third_party/kubevirt", "-programs third_party/cdi=/programs/third_party/cdi"}
	for _, name := range set.Names() {
		if definition, err := set.Get(name); err != nil {
			t.Fatal(err)
		} else if definition.Debian != nil {
			wanted = append(wanted, "-debian "+name+"=/debian/"+name)
			expectIn(t, "the Debian root of "+name, toText(t, images["debian/"+name]["shell"]), "cp -a /unpacked/usr/share/doc /documents/usr/share/")
		}
	}
	expectIn(t, "the bill of materials", script, wanted...)
	if images["sbom"]["from"] != "scratch" || !slices.Equal(neededImages(images["sbom"]), []string{"tree/sbom"}) {
		t.Errorf("sbom is %v", images["sbom"])
	}
}

// The client's image has what the script makes, which finds all that it reads.
func TestTheClientIsReleased(t *testing.T) {
	images, _ := byName(t, renderWerf(t, filepath.Join("..", "..", ".."))[1:])
	if images["client"]["from"] != "scratch" || !slices.Equal(neededImages(images["client"]), []string{"tree/client"}) {
		t.Errorf("client is %v", images["client"])
	}
	expectIn(t, "the client's script", toText(t, images["tree/client"]["shell"]), "/src/tools/client.sh /client")
	expectIn(t, "the client's sources", toText(t, images["tree/client"]["git"]), "LICENSE", "release.yaml", "tools/client.sh", "tools/sbom", "cmd/d8v", "internal", "api")
}

// byName also returns the sorted names of the images that are released.
func byName(t *testing.T, documents []map[string]any) (images map[string]map[string]any, final []string) {
	t.Helper()
	images = map[string]map[string]any{}
	for _, document := range documents {
		name, _ := document["image"].(string)
		if images[name] != nil {
			t.Errorf("image %q is there twice", name)
		}
		images[name] = document
		if document["final"] != false {
			final = append(final, name)
		}
	}
	slices.Sort(final)
	return images, final
}

func expectIn(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", what, want, text)
		}
	}
}

// neededImages lists the images that one is built from.
func neededImages(document map[string]any) []string {
	var needed []string
	if name, found := document["fromImage"].(string); found {
		needed = append(needed, name)
	}
	imports, _ := document["import"].([]any)
	dependencies, _ := document["dependencies"].([]any)
	for _, entry := range slices.Concat(imports, dependencies) {
		if name, found := entry.(map[string]any)["image"].(string); found {
			needed = append(needed, name)
		}
	}
	return needed
}

// toText writes the strings of a document, commands above all, as they are.
func toText(t *testing.T, document any) string {
	t.Helper()
	switch value := document.(type) {
	case string:
		return value + "\n"
	case []any:
		var text string
		for _, entry := range value {
			text += toText(t, entry)
		}
		return text
	case map[string]any:
		var text string
		for _, entry := range value {
			text += toText(t, entry)
		}
		return text
	}
	return ""
}
