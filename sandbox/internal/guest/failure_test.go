// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// What an "up" that was killed left must not be served, or be in the way.
func TestPublishAfterACrash(t *testing.T) {
	cache, target := t.TempDir(), t.TempDir()
	write(t, filepath.Join(cache, "tiny.qcow2"), "whole")
	write(t, filepath.Join(target, "tiny.qcow2.new"), "half")
	write(t, filepath.Join(target, "other.qcow2.new"), "half")
	if err := Publish([]Result{{Dir: cache}}, target); err != nil {
		t.Fatal(err)
	}
	if got := contentOf(t, filepath.Join(target, "tiny.qcow2")); got != "whole" {
		t.Errorf("serves %q", got)
	}
	if left, err := filepath.Glob(filepath.Join(target, "*.new")); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestPublishOfWhatIsNotThere(t *testing.T) {
	target := t.TempDir()
	write(t, filepath.Join(target, "tiny.qcow2"), "served")
	if err := Publish([]Result{{Dir: filepath.Join(target, "none")}}, target); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
	if got := contentOf(t, filepath.Join(target, "tiny.qcow2")); got != "served" {
		t.Errorf("serves %q: what works must stay", got)
	}
}

func TestPublishNamesTheFile(t *testing.T) {
	cache, target := t.TempDir(), t.TempDir()
	write(t, filepath.Join(cache, "tiny.qcow2"), "disk")
	// A folder that is not empty is in the way of the temporary name.
	write(t, filepath.Join(target, "bad", "tiny.qcow2.new", "x"), "")
	err := Publish([]Result{{Prefix: "bad", Dir: cache}}, target)
	if err == nil || !strings.HasPrefix(err.Error(), "publish bad/tiny.qcow2: ") {
		t.Errorf("got %v", err)
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	then := time.Unix(1000, 0)
	for name, text := range map[string]string{"a": "text", "copy": "text", "later": "text", "longer": "text and more"} {
		write(t, at(name), text)
		if err := os.Chtimes(at(name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(at("later"), then, then.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(at("later"), at("link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a", "copy", true}, {"a", "later", false}, {"a", "longer", false}, {"later", "link", true}, {"a", "none", false}, {"none", "a", false},
	} {
		if got := same(at(tt.a), at(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %t", tt.a, tt.b, got)
		}
	}
}

func TestBuildSaysWhichPartFailed(t *testing.T) {
	w := &fakeWorkshop{dir: t.TempDir(), fail: errors.New("no network")}
	_, err := Build(context.Background(), w, t.TempDir())
	if err == nil || err.Error() != "root with the tools for disks: no network" {
		t.Errorf("got %v", err)
	}
	w = &fakeWorkshop{dir: t.TempDir()}
	_, err = Build(context.Background(), w, filepath.Join(w.dir, "none"))
	if err == nil || !strings.HasPrefix(err.Error(), "guest tiny: ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A program that prints a line without end must neither hang nor fill the memory.
func TestRunWithAVeryLongLine(t *testing.T) {
	fakeUnshare(t, "echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo behind; exit 3")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := (root{dir: "/r"}).run(ctx, "/w", "/s", func(string) {}, "true")
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || len(err.Error()) > 1000 {
		t.Errorf("got an error of %d bytes", len(err.Error()))
	}
}

func TestEveryBadFileIsBadInItsOwnWay(t *testing.T) {
	seen := map[string]string{}
	for name, content := range badContents() {
		if other, twice := seen[string(content)]; twice {
			t.Errorf("%s is the same as %s", name, other)
		}
		seen[string(content)] = name
		if name == "text.qcow2" || name == "empty.qcow2" {
			continue
		}
		if string(content[:4]) != "QFI\xfb" {
			t.Errorf("%s would be refused for its first bytes already", name)
		}
	}
}

// An importer that reads a disk in ranges shows so in the log.
func TestAnswersAreCounted(t *testing.T) {
	recorder := httptest.NewRecorder()
	counted := &countingWriter{ResponseWriter: recorder, status: http.StatusOK}
	counted.WriteHeader(http.StatusPartialContent)
	for _, part := range []string{"ab", "", "cde"} {
		if n, err := counted.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if counted.status != 206 || counted.bytes != 5 || recorder.Body.String() != "abcde" || recorder.Code != 206 {
		t.Errorf("counted %d bytes, status %d", counted.bytes, counted.status)
	}
}
