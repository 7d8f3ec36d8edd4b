// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// describe lists a layer's members, one a line.
func describe(t *testing.T, l *layer) []string {
	t.Helper()
	reader, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	archive := tar.NewReader(reader)
	var lines []string
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s has the time %s", header.Name, header.ModTime)
		}
		line := fmt.Sprintf("%c %s %04o %d:%d", header.Typeflag, header.Name, header.Mode, header.Uid, header.Gid)
		if header.Linkname != "" {
			line += " -> " + header.Linkname
		}
		if len(content) > 0 {
			line += " " + strings.TrimSpace(string(content))
		}
		lines = append(lines, line)
	}
}

func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestLayerHoldsWhatTheDefinitionSays(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &materials{
		definition: &Definition{
			Build:       []Build{{Path: "/usr/bin/program"}},
			Files:       []File{{Path: "/etc/program.conf", Mode: "0640", Owner: "107:108"}},
			Directories: []Directory{{Path: "/tmp", Mode: "1777"}},
			Links:       []Link{{Path: "/var/run", Target: "../run"}},
			Users:       []User{{Name: "root", ID: 0, Home: "/root", Shell: "/bin/bash"}, {Name: "user", ID: 5}},
			Groups:      []Group{{Name: "kvm", ID: 36}},
		},
		programs: []Artifact{{Path: program}},
		files:    []Artifact{{Path: program}},
	}
	// The base has /usr and /usr/bin: writing them again would change them.
	layers, directories, err := m.layers(map[string]bool{"usr": true, "usr/bin": true})
	if err != nil {
		t.Fatal(err)
	}
	expectLines(t, describe(t, layers[0]),
		"5 etc/ 0755 0:0",
		"0 etc/group 0644 0:0 root:x:0:\nuser:x:5:\nkvm:x:36:",
		"0 etc/nsswitch.conf 0644 0:0 passwd: files\ngroup: files\nhosts: files dns",
		"0 etc/passwd 0644 0:0 root:x:0:0::/root:/bin/bash\nuser:x:5:5::/nonexistent:/usr/sbin/nologin",
		"0 etc/program.conf 0640 107:108 binary",
		"5 tmp/ 1777 0:0",
		"0 usr/bin/program 0755 0:0 binary",
		"5 var/ 0755 0:0",
		"2 var/run 0777 0:0 -> ../run",
	)
	if !directories["usr/bin"] || !directories["tmp"] || directories["usr/bin/program"] {
		t.Errorf("directories are %v", directories)
	}
}

func TestLayerDependsOnContentOnly(t *testing.T) {
	make := func(content string) *layer {
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		m := &materials{
			definition: &Definition{Build: []Build{{Path: "/p", Capabilities: []string{"net_bind_service"}}}},
			programs:   []Artifact{{Path: program}},
		}
		layers, _, err := m.layers(nil)
		if err != nil {
			t.Fatal(err)
		}
		return layers[0]
	}
	first, second, other := make("same"), make("same"), make("more")
	if first.digest != second.digest {
		t.Errorf("the same content has the digests %s and %s", first.digest, second.digest)
	}
	if first.digest == other.digest {
		t.Error("other content has the same digest")
	}
	// Literal on purpose: a change of the format must not go unnoticed, since it
	// changes every digest. Raise formatVersion with it.
	if got, want := first.digest.String(), "sha256:3b0a7f7ecc4ab0683a83f6c5d93248756a39f77d04376c0696046955a79c11ff"; got != want {
		t.Errorf("the digest is %s, want %s", got, want)
	}
	reader, err := first.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(content)) != first.size {
		t.Errorf("the layer has %d bytes, said to be %d", len(content), first.size)
	}
}

func TestCapabilitiesAreAnAttributeOfTheFile(t *testing.T) {
	e := contentEntry("/p", nil, 0o755)
	e.setCapabilities([]string{"net_bind_service"})
	want := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if got := e.header.PAXRecords["SCHILY.xattr.security.capability"]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLayerSaysWhichFileIsMissing(t *testing.T) {
	m := &materials{
		definition: &Definition{Dir: "images/x", Build: []Build{{Path: "/p"}}},
		programs:   []Artifact{{Path: "/nonexistent/program"}},
	}
	_, _, err := m.layers(nil)
	if err == nil || !strings.HasPrefix(err.Error(), "images/x/image.yaml: build[0]: ") {
		t.Errorf("got error %v", err)
	}
}

// member is one thing in the tar of a Debian root.
type member struct {
	kind    byte
	name    string
	content string
	link    string
	mode    int64
}

func writeRoot(t *testing.T, members ...member) string {
	t.Helper()
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for _, m := range members {
		header := &tar.Header{
			Typeflag: m.kind, Name: m.name, Linkname: m.link, Mode: m.mode, Size: int64(len(m.content)),
			ModTime: time.Unix(1700000000, 0), Uname: "root",
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.tar")
	if err := os.WriteFile(file, buffer.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

var someRoot = []member{
	{kind: tar.TypeDir, name: "./", mode: 0o755},
	{kind: tar.TypeSymlink, name: "./bin", link: "usr/bin", mode: 0o777},
	{kind: tar.TypeDir, name: "./dev/", mode: 0o755},
	{kind: tar.TypeChar, name: "./dev/null", mode: 0o666},
	{kind: tar.TypeDir, name: "./usr/", mode: 0o755},
	{kind: tar.TypeDir, name: "./usr/bin/", mode: 0o755},
	{kind: tar.TypeReg, name: "./usr/bin/mount", content: "m", mode: 0o4755},
	{kind: tar.TypeLink, name: "./usr/bin/mount2", link: "./usr/bin/mount", mode: 0o4755},
	{kind: tar.TypeDir, name: "./usr/share/", mode: 0o755},
	{kind: tar.TypeDir, name: "./usr/share/ca-certificates/mozilla/", mode: 0o755},
	{kind: tar.TypeReg, name: "./usr/share/ca-certificates/mozilla/a.crt", content: "A\n", mode: 0o644},
	{kind: tar.TypeReg, name: "./usr/share/ca-certificates/mozilla/b.crt", content: "B\n", mode: 0o644},
	{kind: tar.TypeDir, name: "./usr/share/doc/", mode: 0o755},
	{kind: tar.TypeReg, name: "./usr/share/doc/readme", content: "d", mode: 0o644},
}

func TestDebianLayer(t *testing.T) {
	tests := map[string]struct {
		debian Debian
		want   []string
	}{
		"excluded": {
			debian: Debian{Exclude: []string{"usr/share/{doc,ca-certificates}", "dev"}, CABundle: []string{"/etc/ssl/ca.crt"}},
			want: []string{
				"2 bin 0777 0:0 -> usr/bin", "5 usr/ 0755 0:0", "5 usr/bin/ 0755 0:0",
				"0 usr/bin/mount 0755 0:0 m", "1 usr/bin/mount2 0755 0:0 -> usr/bin/mount", "5 usr/share/ 0755 0:0",
				"5 etc/ 0755 0:0", "5 etc/ssl/ 0755 0:0", "0 etc/ssl/ca.crt 0644 0:0 A\nB",
			},
		},
		"kept": {
			debian: Debian{Keep: []string{"bin", "usr/share/doc"}},
			want:   []string{"2 bin 0777 0:0 -> usr/bin", "5 usr/share/doc/ 0755 0:0", "0 usr/share/doc/readme 0644 0:0 d"},
		},
		"kept and excluded": {
			debian: Debian{Keep: []string{"usr/share/*"}, Exclude: []string{"usr/share/doc/**", "usr/share/ca-certificates"}},
			want:   []string{},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			write, _, err := debianLayer(&test.debian, writeRoot(t, someRoot...))
			if err != nil {
				t.Fatal(err)
			}
			l, err := newLayer(write)
			if err != nil {
				t.Fatal(err)
			}
			expectLines(t, describe(t, l), test.want...)
		})
	}
}

func TestDebianLayerRefuses(t *testing.T) {
	tests := map[string]struct {
		debian Debian
		want   string
	}{
		"a bundle of nothing":    {debian: Debian{CABundle: []string{"/ca.crt"}}, want: "add the package ca-certificates"},
		"half of two hard links": {debian: Debian{Exclude: []string{"usr/bin/mount"}}, want: "usr/bin/mount2 is a hard link to usr/bin/mount"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := writeRoot(t, someRoot[:8]...)
			write, _, err := debianLayer(&test.debian, root)
			if err == nil {
				_, err = newLayer(write)
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}
