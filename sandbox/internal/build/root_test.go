// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// The commands below stand in for those that need the network or change the
// machine. Each notes how it was called.
const (
	fakeAptGet = `#!/bin/sh
[ -z "$NO_MIRROR" ] && echo "Debian http://mirror.example/debian/"
exit 0
`
	fakeMmdebstrap = `#!/bin/sh
echo "$SOURCE_DATE_EPOCH $*" >> "$FAKES/mmdebstrap.log"
echo "I: downloading" >&2
for target; do
	case "$target" in
	/*.tar) echo root > "$target" ;;
	/*/root) mkdir -p "$target/usr/src" && cp "$FAKES/libnbd_1.orig.tar.gz" "$target/usr/src/" ;;
	esac
done
`
	// The folder bound at /out is the argument before it.
	fakeUnshare = `#!/bin/sh
echo "$*" >> "$FAKES/unshare.log"
for argument; do
	case "$argument" in
	/out) out=$before ;;
	/src) ls "$before" >> "$FAKES/workspace.log" ;;
	esac
	before=$argument
done
echo compiled > "$out/x"
echo compiled > "$out/program"
`
)

// useFakes puts the commands above before the machine's own and returns a
// function that reads what was noted of one.
func useFakes(t *testing.T) func(name string) []string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range map[string]string{"apt-get": fakeAptGet, "mmdebstrap": fakeMmdebstrap, "unshare": fakeUnshare} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeBinding(t, filepath.Join(dir, "libnbd_1.orig.tar.gz"))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("FAKES", dir)
	return func(name string) []string {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(dir, name+".log"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return slices.DeleteFunc(strings.Split(string(content), "\n"), func(line string) bool { return line == "" })
	}
}

// writeBinding writes a source archive like that of libnbd.
func writeBinding(t *testing.T, file string) {
	t.Helper()
	var buffer bytes.Buffer
	packed := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(packed)
	for _, name := range []string{"go.mod", "handle.go", "handle_test.go", "wrappers.h", "Makefile.am", "examples/a.go"} {
		content := "// freeCallbackId of " + name
		header := &tar.Header{Typeflag: tar.TypeReg, Name: "libnbd-1/golang/" + name, Size: int64(len(content)), Mode: 0o644}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, buffer.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUnpackBindingTakesThePackageOnly(t *testing.T) {
	sources := t.TempDir()
	target := filepath.Join(t.TempDir(), "libnbd")
	if err := unpackBinding(sources, target); err == nil || !strings.Contains(err.Error(), "holds 0 source archives of libnbd, want one") {
		t.Errorf("got error %v", err)
	}
	writeBinding(t, filepath.Join(sources, "libnbd_1.orig.tar.gz"))
	if err := unpackBinding(sources, target); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(target)
	if err != nil || len(entries) != 3 {
		t.Fatalf("unpacked %v, %v", entries, err)
	}
	content, err := os.ReadFile(filepath.Join(target, "handle.go"))
	if err != nil || string(content) != "// nbdFreeCallbackId of handle.go" {
		t.Errorf("handle.go is %q, %v", content, err)
	}
}

func TestPackageRootIsFetchedOnce(t *testing.T) {
	noted := useFakes(t)
	b := newBuilder(t)
	first, err := b.PackageRoot(t.Context(), "trixie", []string{"b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.PackageRoot(t.Context(), "trixie", []string{"a", "b"})
	if err != nil || again != first {
		t.Errorf("in another order: %+v, %v", again, err)
	}
	other, err := b.PackageRoot(t.Context(), "trixie", []string{"a", "c"})
	if err != nil || other.Key == first.Key || other.Path == first.Path {
		t.Errorf("of other packages: %+v, %v", other, err)
	}
	want := "0 --mode=root --aptopt=APT::Install-Recommends \"false\" --variant=extract --include=a,b trixie "
	calls := noted("mmdebstrap")
	if len(calls) != 2 || !strings.HasPrefix(calls[0], want) || !strings.Contains(calls[0], "root.tar deb http://mirror.example/debian/ trixie main") {
		t.Errorf("mmdebstrap was called with %q", calls)
	}
}

func TestPackageRootNeedsAMirror(t *testing.T) {
	useFakes(t)
	t.Setenv("NO_MIRROR", "1")
	_, err := newBuilder(t).PackageRoot(t.Context(), "trixie", []string{"a"})
	if err == nil || !strings.Contains(err.Error(), "apt knows no Debian mirror: name one in /etc/apt/sources.list") {
		t.Errorf("got error %v", err)
	}
}

// newCgoBuilder prepares a builder whose pinned module calls C libraries.
func newCgoBuilder(t *testing.T) *Builder {
	t.Helper()
	b := newBuilder(t)
	dir := filepath.Join(b.repoRoot, "third_party", "x")
	goMod := "module example.org/third_party/x\n\ngo 1.25.0\n\nrequire example.org/c v1.0.0\n\nreplace libguestfs.org/libnbd => ../libnbd\n"
	for name, content := range map[string]string{"go.mod": goMod, "build.yaml": "cgo: true\ntags: [some]\nprograms: {x: .}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestReleaseWithLibrariesIsCompiledInARoot(t *testing.T) {
	noted := useFakes(t)
	b := newCgoBuilder(t)
	r, err := b.release(t.Context(), "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "x")); err != nil {
		t.Error(err)
	}
	if got := noted("workspace"); !slices.Equal(got, []string{"libnbd", "x"}) {
		t.Errorf("the workspace held %v", got)
	}
	calls := noted("unshare")
	if last := calls[len(calls)-1]; !strings.HasSuffix(last, "go build -v -trimpath -tags some -ldflags  -o /out/ .") || !strings.Contains(last, "CGO_ENABLED=1") {
		t.Errorf("compiled with %q", last)
	}
	// Once more: neither the root nor the program is made again, even when the
	// root is gone.
	if err := os.RemoveAll(filepath.Join(b.cache.dir, "debian")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Build(t.Context(), "images/pinned"); err != nil {
		t.Fatal(err)
	}
	<-b.Prefetch(t.Context(), "images")
	if roots := noted("mmdebstrap"); len(roots) != 1 || !strings.Contains(roots[0], "--include=gcc,libc6-dev,libnbd-dev,libvirt-dev,pkg-config") {
		t.Errorf("roots were made with %q", roots)
	}
}

func TestPrefetchFetchesWhatIsStillNeeded(t *testing.T) {
	noted := useFakes(t)
	b := newCgoBuilder(t)
	definition := "description: A base\nbaseOnly: true\ndebian: {suite: trixie, packages: [bash]}\n"
	if err := os.MkdirAll(filepath.Join(b.repoRoot, "images", "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.repoRoot, "images", "base", "image.yaml"), []byte(definition), 0o644); err != nil {
		t.Fatal(err)
	}
	<-b.Prefetch(t.Context(), "d8v", "images")
	calls := noted("mmdebstrap")
	if len(calls) != 2 || !strings.Contains(calls[0], "--include=bash ") || !strings.Contains(calls[1], "--variant=minbase") {
		t.Errorf("roots were made with %q", calls)
	}
}

func TestCProgramIsCompiledOnce(t *testing.T) {
	noted := useFakes(t)
	b := newCgoBuilder(t)
	b.toolchain.Modules = t.TempDir()
	if err := os.MkdirAll(filepath.Join(b.toolchain.Modules, "example.org", "c@v1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	var made []image.Artifact
	for range 2 {
		artifact, err := b.CProgram(t.Context(), "third_party/x", "example.org/c/cmd/main.c")
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, artifact)
	}
	if made[0] != made[1] {
		t.Errorf("made %+v", made)
	}
	if content, err := os.ReadFile(made[0].Path); err != nil || string(content) != "compiled\n" {
		t.Errorf("the program is %q, %v", content, err)
	}
	calls := noted("unshare")
	if last := calls[len(calls)-1]; !strings.HasSuffix(last, "gcc -O2 -static -s -o /out/program cmd/main.c") {
		t.Errorf("compiled with %q", last)
	}
}
