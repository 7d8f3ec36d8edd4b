// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// newRepository lays out a small repository with one program of ours, one pinned
// module that needs no network, and one image of each.
func newRepository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"go.mod":                       "module example.org/own\n\ngo 1.25.0\n",
		"cmd/program/main.go":          "package main\n\nfunc main() { println(\"first\") }\n",
		"cmd/program/part/part.go":     "package part\n",
		"third_party/x/go.mod":         "module example.org/third_party/x\n\ngo 1.25.0\n",
		"third_party/x/main.go":        "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
		"third_party/x/build.yaml":     "ldflags: [-s, -w, -X main.version=v9]\nprograms: {pinned-program: .}\n",
		"images/program/image.yaml":    "description: Ours\nbuild: [{module: ., package: ./cmd/program, path: /program}]\nconfig: {entrypoint: [/program]}\n",
		"images/pinned/image.yaml":     "description: Pinned\nbuild: [{module: third_party/x, package: ., path: /pinned}]\nconfig: {entrypoint: [/pinned]}\n",
		"sandbox/images/x/image.yaml":  "description: The sandbox's\nfiles: [{source: f, path: /f}]\nconfig: {entrypoint: [/f]}\n",
		"sandbox/images/x/f":           "content",
		"images/unbuilt/not-an-image":  "",
		"images/other-file-is-ignored": "",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func newBuilder(t *testing.T) *Builder {
	t.Helper()
	b, err := New(t.TempDir(), newRepository(t), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImagesOfOwnAndPinnedPrograms(t *testing.T) {
	b := newBuilder(t)
	var lines []string
	b.progress = func(line string) { lines = append(lines, line) }
	build := func(targets ...string) []Result {
		t.Helper()
		results, err := b.Build(t.Context(), targets...)
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	// Only these two: the folders without a definition are no images.
	first, err := b.Images(t.Context())
	if err != nil || len(first) != 2 || first[0].Name != "pinned" || first[1].Name != "program" {
		t.Fatalf("images are %+v, %v", first, err)
	}
	if got, want := first[0].References[0], "registry.sandbox.internal/modules/virtualization@"+first[0].Digest; got != want {
		t.Errorf("the image is called %q, want %q", got, want)
	}
	if !slices.Contains(lines, "building x, 1 programs") {
		t.Errorf("said %q", lines)
	}

	lines = nil
	results := build("images")
	// With everything made, nothing is asked of a Debian root.
	if len(lines) != 0 {
		t.Errorf("a run with nothing to do said %q", lines)
	}
	if len(results) != 2 || results[0].Path != first[0].Archive || results[1].Path != first[1].Archive {
		t.Fatalf("results are %+v", results)
	}

	main := filepath.Join(b.repoRoot, "cmd", "program", "main.go")
	if err := os.WriteFile(main, []byte("package main\n\nfunc main() { println(\"second\") }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed := build("images/program"); len(changed) != 1 || changed[0].Path == first[1].Archive {
		t.Errorf("after a change the results are %+v", changed)
	}
}

func TestPublishKeepsOtherDigests(t *testing.T) {
	b := newBuilder(t)
	file := filepath.Join(b.stateDir, "images", "images_digests.json")
	for _, published := range [][]image.Image{
		{{Name: "virt-api", Digest: "sha256:1"}, {Name: "dvcr", Digest: "sha256:2"}},
		{{Name: "dvcr", Digest: "sha256:3"}},
	} {
		if err := b.Publish(published); err != nil {
			t.Fatal(err)
		}
	}
	if got := readDigests(t, file); len(got) != 2 || got["virtApi"] != "sha256:1" || got["dvcr"] != "sha256:3" {
		t.Errorf("digests are %v", got)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(nil); err == nil || !strings.HasPrefix(err.Error(), file) {
		t.Errorf("got error %v", err)
	}
}

func readDigests(t *testing.T, file string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{}
	if err := json.Unmarshal(content, &digests); err != nil {
		t.Fatal(err)
	}
	return digests
}

func TestSandboxImagesHaveTags(t *testing.T) {
	b := newBuilder(t)
	images, err := b.SandboxImages(t.Context())
	if err != nil || len(images) != 1 {
		t.Fatalf("images are %+v, %v", images, err)
	}
	if want := []string{"registry.sandbox.internal/sandbox/x:sandbox"}; !slices.Equal(images[0].References, want) {
		t.Errorf("the image is called %v, want %v", images[0].References, want)
	}
	results, err := b.Build(t.Context(), "sandbox-images")
	if err != nil || len(results) != 1 || results[0].Path != images[0].Archive {
		t.Errorf("results are %+v, %v", results, err)
	}
}

func TestReleaseIsMadeOnceAndNamed(t *testing.T) {
	b := newBuilder(t)
	r, err := b.release(t.Context(), "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	if output, err := run(t.Context(), command{args: []string{"sh", "-c", r.dir + "/pinned-program 2>&1"}}); err != nil || string(output) != "v9\n" {
		t.Errorf("the program says %q, %v", output, err)
	}
	if err := os.WriteFile(filepath.Join(b.repoRoot, "third_party/x/main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := b.release(t.Context(), "third_party/x"); err != nil || changed.key == r.key || changed.dir == r.dir {
		t.Errorf("after a change: %+v, %v", changed, err)
	}
	left, err := filepath.Glob(filepath.Join(b.cache.dir, "workspace-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestOwnTargetListsCommandsOnly(t *testing.T) {
	b := newBuilder(t)
	results, err := ownTarget(".", "./cmd/...")(t.Context(), b)
	if err != nil || len(results) != 1 || results[0].Name != "program" {
		t.Fatalf("results are %+v, %v", results, err)
	}
	if _, err := os.Stat(results[0].Path); err != nil {
		t.Error(err)
	}
}

func TestBuildTellsWhatIsWrong(t *testing.T) {
	b := newBuilder(t)
	broken := filepath.Join(b.repoRoot, "cmd", "program", "broken.go")
	if err := os.WriteFile(broken, []byte("package main\n\nvar x int = \"text\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"bogus":          `building bogus: there is no such target, there are: cdi, containerd, `,
		"images/bogus":   `no image is called "bogus"`,
		"images/program": `cannot use "text"`,
		"kubernetes":     "third_party/kubernetes has no build.yaml",
	}
	for target, want := range tests {
		if _, err := b.Build(t.Context(), target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", target, err, want)
		}
	}
	_, err := b.Programs(t.Context(), []image.Program{{Module: "third_party/x", Package: "example.org/other"}})
	if err == nil || !strings.Contains(err.Error(), "third_party/x/go.mod has no tool example.org/other: add it") {
		t.Errorf("got error %v", err)
	}
	if _, err := b.ModuleFile(t.Context(), ".", "example.org/x/y"); err == nil || !strings.Contains(err.Error(), "has no build.yaml") {
		t.Errorf("got error %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	started := time.Now()
	_, err := run(ctx, command{args: []string{"sh", "-c", "sleep 60 & wait"}})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 10*time.Second {
		t.Errorf("got error %v after %s", err, time.Since(started))
	}
}

func TestRunShowsTheEndOfWhatFailed(t *testing.T) {
	var lines []string
	_, err := run(t.Context(), command{
		args: []string{"sh", "-c", "for i in $(seq 40); do echo line $i >&2; done; printf end >&2; exit 3"},
		line: func(line string) { lines = append(lines, line) },
	})
	if err == nil || !strings.Contains(err.Error(), "exit status 3\nline 11\n") || !strings.HasSuffix(err.Error(), "line 40\nend") {
		t.Errorf("got error %v", err)
	}
	if len(lines) != 40 || lines[0] != "line 1" {
		t.Errorf("got the lines %v", lines)
	}
}

func TestSourceLines(t *testing.T) {
	got := sourceLines("Debian http://a/debian/\nDebian-Security http://a/security/\nDebian http://a/debian/\n", "trixie")
	want := []string{
		"deb http://a/debian/ trixie main", "deb-src http://a/debian/ trixie main",
		"deb http://a/debian/ trixie-updates main", "deb-src http://a/debian/ trixie-updates main",
		"deb http://a/security/ trixie-security main", "deb-src http://a/security/ trixie-security main",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := sourceLines("Other http://b/\n", "trixie"); len(got) != 0 {
		t.Errorf("without Debian got %q", got)
	}
}

func TestInRootBindsAndTranslates(t *testing.T) {
	b := &Builder{toolchain: toolchain{Root: "/opt/go", Modules: "/m", BuildCache: "/c"}}
	got := b.inRoot("/root", "/w", "/o", command{
		dir: "/w/x", env: []string{"CGO_ENABLED=1"}, args: []string{"go", "build", "-o", "/o/", "/o/program", "p"},
	})
	tail := strings.Join(got.args, " ")
	want := " enter /root /opt/go /usr/local/go /m /go/mod /c /go/cache /w /src /o /out -- /src/x " +
		"PATH=/usr/local/go/bin:/usr/bin:/bin HOME=/root GOMODCACHE=/go/mod GOCACHE=/go/cache GOPROXY=off CGO_ENABLED=1 go build -o /out/ /out/program p"
	if !strings.HasSuffix(tail, want) {
		t.Errorf("got  %s\nwant %s", tail, want)
	}
}

func TestModuleFileOutlivesTheModuleCache(t *testing.T) {
	b := newBuilder(t)
	b.toolchain.Modules = t.TempDir()
	goMod := "module x\n\nrequire example.org/Upper v1.2.3\n"
	if err := os.WriteFile(filepath.Join(b.repoRoot, "third_party/x/go.mod"), []byte(goMod), 0o644); err != nil {
		t.Fatal(err)
	}
	// Upper case letters are escaped in the cache's folders.
	release := filepath.Join(b.toolchain.Modules, "example.org", "!upper@v1.2.3")
	if err := os.MkdirAll(filepath.Join(release, "cmd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(release, "cmd", "x.conf"), []byte("content"), 0o444); err != nil {
		t.Fatal(err)
	}
	first, err := b.ModuleFile(t.Context(), "third_party/x", "example.org/Upper/cmd/x.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.toolchain.Modules); err != nil {
		t.Fatal(err)
	}
	second, err := b.ModuleFile(t.Context(), "third_party/x", "example.org/Upper/cmd/x.conf")
	if err != nil || second != first {
		t.Fatalf("got %+v, %v, want %+v", second, err, first)
	}
	if content, err := os.ReadFile(second.Path); err != nil || string(content) != "content" {
		t.Errorf("the file is %q, %v", content, err)
	}
}

func TestStepTellsThatItStillRuns(t *testing.T) {
	// Large enough that no report ever waits for its reader.
	lines := make(chan string, 100000)
	b := &Builder{progress: func(line string) { lines <- line }, interval: time.Millisecond}
	s := b.step("a thing")
	if got := <-lines; got != "building a thing" {
		t.Errorf("said first %q", got)
	}
	count := countPackages(s, " of at most 9")
	count("example.org/a")
	count("go: downloading example.org/b")
	count("example.org/c")
	for line := range lines {
		if line == "building a thing: package 2 of at most 9, example.org/c (0s)" {
			break
		}
	}
	s.end(nil)
	if got := last(lines); got != "built a thing in 0s" {
		t.Errorf("said last %q", got)
	}
	quiet := b.quietStep("nothing")
	quiet.end(nil)
	failed := b.step("a failure")
	failed.end(errors.New("no luck"))
	if got := last(lines); got != "building a failure" {
		t.Errorf("of nothing done and of a failure it said last %q", got)
	}
}

// last empties a channel of lines and returns the last one without its progress.
func last(lines chan string) string {
	var line string
	for len(lines) > 0 {
		if got := <-lines; !strings.Contains(got, "(") {
			line = got
		}
	}
	return line
}
