// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"bytes"
	"errors"
	"math"
	"os"
	"testing"
)

func newStore(t *testing.T) store {
	t.Helper()
	return store{root: t.TempDir()}
}

func TestCreateIsIdempotent(t *testing.T) {
	s := newStore(t)
	for range 2 {
		if err := s.create("pvc-1", "", 4<<20); err != nil {
			t.Fatal(err)
		}
	}
	if size, err := s.size("pvc-1"); err != nil || size != 4<<20 {
		t.Errorf("size %d, %v", size, err)
	}
	if err := s.create("pvc-1", "", 8<<20); !errors.Is(err, errWrongSize) {
		t.Errorf("another size: got %v", err)
	}
	for range 2 {
		if err := s.remove("pvc-1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.size("pvc-1"); !errors.Is(err, errNotFound) {
		t.Errorf("after removal: got %v", err)
	}
	if left, err := os.ReadDir(s.root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestCloneIsSparse(t *testing.T) {
	s := newStore(t)
	if err := s.create("source", "", 64<<20); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(s.data("source"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("data"), 1024)
	if _, err := file.WriteAt(content, 32<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.create("clone", "source", 80<<20); err != nil {
		t.Fatal(err)
	}
	// Later writes to the source do not reach the clone.
	if _, err := file.WriteAt([]byte("later"), 32<<20); err != nil {
		t.Fatal(err)
	}
	clone, err := os.Open(s.data("clone"))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(content))
	if _, err := clone.ReadAt(got, 32<<20); err != nil || !bytes.Equal(got, content) {
		t.Errorf("content differs, %v", err)
	}
	info, err := clone.Stat()
	if err != nil || info.Size() != 80<<20 {
		t.Errorf("size %d, %v", info.Size(), err)
	}
	if err := s.create("small", "source", 1<<20); !errors.Is(err, errSourceLarger) {
		t.Errorf("smaller clone: got %v", err)
	}
	if err := s.create("orphan", "nothing", 1<<20); !errors.Is(err, errNotFound) {
		t.Errorf("clone of nothing: got %v", err)
	}
}

func TestGrowNeverShrinks(t *testing.T) {
	s := newStore(t)
	if err := s.create("pvc-1", "", 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ ask, want int64 }{{8 << 20, 8 << 20}, {2 << 20, 8 << 20}} {
		if got, attached, err := s.grow("pvc-1", tc.ask); err != nil || got != tc.want || attached {
			t.Errorf("grow to %d: got %d, attached %v, %v", tc.ask, got, attached, err)
		}
	}
	if err := os.WriteFile(s.staged("pvc-1")+"/node-1", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, attached, err := s.grow("pvc-1", 9<<20); err != nil || !attached {
		t.Errorf("an attached volume: attached %v, %v", attached, err)
	}
	if _, _, err := s.grow("nothing", 1); !errors.Is(err, errNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAttachedVolumeStays(t *testing.T) {
	s := newStore(t)
	if err := s.create("pvc-1", "", 1<<20); err != nil {
		t.Fatal(err)
	}
	mark := s.staged("pvc-1") + "/node-2"
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.remove("pvc-1")
	if err == nil || err.Error() != "pvc-1 is attached on [node-2]" {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if err := s.remove("pvc-1"); err != nil {
		t.Error(err)
	}
}

func TestNamesStayInTheDirectory(t *testing.T) {
	s := newStore(t)
	for _, name := range []string{"", "../etc", "a/b", ".hidden"} {
		if err := s.create(name, "", 1<<20); !errors.Is(err, errInvalidName) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestRoundUp(t *testing.T) {
	cases := []struct {
		required, limit, want int64
		fails                 bool
	}{
		{0, 0, 1 << 20, false}, {1, 0, 1 << 20, false}, {1 << 20, 0, 1 << 20, false}, {1<<20 + 1, 0, 2 << 20, false},
		{5 << 20, 5 << 20, 5 << 20, false}, {1<<20 + 1, 1<<20 + 2, 0, true},
		{-1, 0, 0, true}, {math.MaxInt64, 0, 0, true}, {math.MaxInt64 - 1<<20 + 1, 0, 0, true}, {math.MaxInt64 - 1<<20, 0, math.MaxInt64 - 1<<20 + 1, false},
	}
	for _, tc := range cases {
		got, err := roundUp(tc.required, tc.limit)
		if got != tc.want || (err != nil) != tc.fails {
			t.Errorf("%d to %d: got %d, %v", tc.required, tc.limit, got, err)
		}
	}
}
