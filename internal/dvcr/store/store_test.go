// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

const (
	uploadDir = "/docker/registry/v2/repositories/vi/team/mine/_uploads/8a2c"
	upload    = uploadDir + "/data"
	states    = uploadDir + "/hashstates/sha256/"
)

func newDriver(t *testing.T) (*Driver, string) {
	t.Helper()
	root := t.TempDir()
	return New(filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: 25}), root), root
}

func open(ctx context.Context, t *testing.T, d *Driver, appending bool) storagedriver.FileWriter {
	t.Helper()
	w, err := d.Writer(ctx, upload, appending)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func write(t *testing.T, w storagedriver.FileWriter, content []byte) {
	t.Helper()
	if n, err := w.Write(content); err != nil || n != len(content) {
		t.Fatal(n, err)
	}
}

func content(root string) []byte {
	got, _ := os.ReadFile(filepath.Join(root, upload))
	return got
}

// random bytes, the same for the same size.
func random(size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

func TestAnUploadHoldsWhatWasWritten(t *testing.T) {
	whole := random(2*blockSize + 12345)
	for _, tc := range []struct {
		title string
		// cuts are where one request ends and the next one begins.
		cuts []int
		step int
	}{
		{"at once", nil, len(whole)},
		{"in small pieces", nil, 1000},
		{"in pieces of records", nil, 16 << 10},
		{"in two requests", []int{blockSize + 1}, 100_000},
		{"in requests of whole blocks", []int{blockSize, 2 * blockSize}, 1 << 20},
		{"in many requests", []int{1, 2, 4096, 8193, blockSize - 1, blockSize + 4096, 2 * blockSize}, 300_000},
	} {
		t.Run(tc.title, func(t *testing.T) {
			d, root := newDriver(t)
			from := 0
			for _, to := range append(tc.cuts, len(whole)) {
				w := open(t.Context(), t, d, from > 0)
				if w.Size() != int64(from) {
					t.Fatalf("it begins with %d bytes in place of %d", w.Size(), from)
				}
				for at := from; at < to; at += tc.step {
					write(t, w, whole[at:min(to, at+tc.step)])
				}
				if w.Size() != int64(to) {
					t.Errorf("%d bytes in place of %d", w.Size(), to)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				from = to
			}
			if !bytes.Equal(content(root), whole) {
				t.Error("the file holds other bytes")
			}
		})
	}
}

// Whoever asks for the size while bytes come gets to know all whole pages of them, and
// they are in the file.
func TestASecondWriterSeesWhatHasCome(t *testing.T) {
	d, root := newDriver(t)
	whole := random(blockSize + 100_000)
	w := open(t.Context(), t, d, false)
	for _, tc := range []struct {
		until int
		want  int64
	}{
		{100, 0}, {5000, 4096}, {5001, 4096}, {8192, 8192}, {blockSize - 10, blockSize - 4096}, {len(whole), blockSize + 98_304},
	} {
		write(t, w, whole[w.Size():tc.until])
		probe := open(t.Context(), t, d, true)
		if probe.Size() != tc.want {
			t.Errorf("of %d bytes %d are seen, want %d", tc.until, probe.Size(), tc.want)
		}
		if err := probe.Close(); err != nil {
			t.Error(err)
		}
		if got := content(root); !bytes.Equal(got, whole[:tc.want]) {
			t.Errorf("the file holds other bytes (%d)", len(got))
		}
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(root), whole) {
		t.Error("in the end the file holds other bytes")
	}
}

// A request that broke without being noticed must write nothing behind the back of the
// one that goes on.
func TestTheLastWriterIsTheOnlyOne(t *testing.T) {
	d, root := newDriver(t)
	broken := open(WithRequest(t.Context()), t, d, false)
	write(t, broken, bytes.Repeat([]byte("a"), 10_000))
	next := open(WithRequest(t.Context()), t, d, true)
	if next.Size() != 8192 {
		t.Fatalf("it begins with %d bytes", next.Size())
	}
	write(t, next, []byte("bbb"))
	if _, err := broken.Write([]byte("a")); !errors.Is(err, errOvertaken) {
		t.Errorf("the broken one writes: %v", err)
	}
	if err := broken.Close(); !errors.Is(err, errOvertaken) {
		t.Errorf("the broken one has stored all: %v", err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Repeat([]byte("a"), 8192), "bbb"...); !bytes.Equal(content(root), want) {
		t.Error("the file holds other bytes")
	}
	if broken.Size() != 8195 {
		t.Errorf("the broken one tells of %d bytes", broken.Size())
	}
}

// What came in between is not written over.
func TestAnOutdatedWriterIsRefused(t *testing.T) {
	d, root := newDriver(t)
	late := open(t.Context(), t, d, true)
	first := open(t.Context(), t, d, true)
	write(t, first, []byte("first"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Write([]byte("late")); !errors.Is(err, errOvertaken) {
		t.Errorf("%v", err)
	}
	if got := content(root); string(got) != "first" {
		t.Errorf("the file holds %q", got)
	}
}

// The state of a hash stands for the bytes that it was computed of: it is kept only by
// the request that has written them, and only when they are there.
func TestStatesOfHashes(t *testing.T) {
	for _, tc := range []struct {
		title string
		write string
		// spoil is done before the state is stored.
		spoil  func(ctx context.Context, t *testing.T, d *Driver, w *writer) context.Context
		offset string
		want   bool
	}{
		{title: "of all that was written", write: "12345", offset: "5", want: true},
		{title: "of less", write: "12345", offset: "4"},
		{title: "of more", write: "12345", offset: "6"},
		{title: "of nothing", offset: "0"},
		{title: "by another request", write: "12345", offset: "5", spoil: func(context.Context, *testing.T, *Driver, *writer) context.Context {
			return WithRequest(context.Background())
		}},
		{title: "after a failure", write: "12345", offset: "5", spoil: func(ctx context.Context, _ *testing.T, _ *Driver, w *writer) context.Context {
			w.fail(errors.New("input/output error"))
			return ctx
		}},
		{title: "after another request has gone on", write: "12345", offset: "5", spoil: func(ctx context.Context, t *testing.T, d *Driver, _ *writer) context.Context {
			write(t, open(WithRequest(t.Context()), t, d, true), []byte("12345"))
			return ctx
		}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			d, root := newDriver(t)
			ctx := WithRequest(t.Context())
			w := open(ctx, t, d, false)
			if tc.write != "" {
				write(t, w, []byte(tc.write))
			}
			if tc.spoil != nil {
				ctx = tc.spoil(ctx, t, d, w.(*writer))
			}
			if err := d.PutContent(ctx, states+tc.offset, []byte("state")); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(filepath.Join(root, states+tc.offset))
			if got := err == nil; got != tc.want {
				t.Errorf("it is kept: %v, want %v", got, tc.want)
			}
			if tc.want && string(content(root)) != tc.write {
				t.Error("the bytes come after the state")
			}
		})
	}
}

// Uploads are removed by their age. Asking for one's status counts.
func TestAStatusKeepsAnUploadYoung(t *testing.T) {
	d, root := newDriver(t)
	w := open(t.Context(), t, d, false)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(root, uploadDir), old, old); err != nil {
		t.Fatal(err)
	}
	if err := d.PutContent(t.Context(), states+"0", nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(root, uploadDir))
	if err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("%v, %v", info, err)
	}
	if err := d.PutContent(t.Context(), "/docker/registry/v2/repositories/gone/_uploads/1/hashstates/sha256/0", nil); err != nil {
		t.Errorf("an upload that is gone: %v", err)
	}
}

func TestACancelledUploadIsGone(t *testing.T) {
	d, root := newDriver(t)
	w := open(t.Context(), t, d, false)
	write(t, w, random(10_000))
	if err := w.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("a second end: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, upload)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("it is still written to: %v", err)
	}
	if err := errors.Join(w.Cancel(t.Context()), w.Commit(t.Context())); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
}

// A failure of the disk is told sooner or later, and never what is not there.
func TestAFailureOfTheDiskIsTold(t *testing.T) {
	d, _ := newDriver(t)
	w := open(t.Context(), t, d, false)
	write(t, w, random(10_000))
	cause := errors.New("no space left on device")
	w.(*writer).fail(cause)
	if _, err := w.Write([]byte("x")); !errors.Is(err, cause) {
		t.Errorf("write: %v", err)
	}
	if err := w.Commit(t.Context()); !errors.Is(err, cause) {
		t.Errorf("commit: %v", err)
	}
	if err := w.Close(); !errors.Is(err, cause) {
		t.Errorf("close: %v", err)
	}
	if w.Size() != 0 {
		t.Errorf("it tells of %d bytes", w.Size())
	}
}

// All else is stored as it always was.
func TestOtherFilesAreLeftToTheDriver(t *testing.T) {
	d, root := newDriver(t)
	for _, file := range []string{
		"/docker/registry/v2/blobs/sha256/ab/abcd/data",
		uploadDir + "/startedat",
		"/docker/registry/v2/repositories/vi/team/mine/_layers/sha256/abcd/link",
	} {
		if err := d.PutContent(t.Context(), file, []byte(file)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(root, file)); err != nil || string(got) != file {
			t.Errorf("%q, %v", got, err)
		}
		w, err := d.Writer(t.Context(), file, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, ours := w.(*writer); ours {
			t.Errorf("%s is taken for an upload", file)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A directory that cannot be written to is an error, not a panic.
func TestARootThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := New(filesystem.New(filesystem.DriverParameters{RootDirectory: file, MaxThreads: 25}), file)
	if w, err := d.Writer(t.Context(), upload, false); err == nil {
		t.Errorf("a writer of %s", fmt.Sprint(w))
	}
}
