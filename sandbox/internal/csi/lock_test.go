// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// happens tells whether it happens soon.
func happens(what <-chan struct{}, within time.Duration) bool {
	select {
	case <-what:
		return true
	case <-time.After(within):
		return false
	}
}

// locked takes a volume's lock in the background.
func locked(t *testing.T, s store, volume string) (got <-chan struct{}, unlock func()) {
	t.Helper()
	taken := make(chan struct{})
	release := func() {}
	go func() {
		unlock, err := s.lock(volume)
		if err != nil {
			t.Error(err)
		}
		release = unlock
		close(taken)
	}()
	return taken, func() { <-taken; release() }
}

func TestLockIsForOneAtATime(t *testing.T) {
	s := newStore(t)
	unlock, err := s.lock("pvc-1")
	if err != nil {
		t.Fatal(err)
	}
	second, unlockSecond := locked(t, s, "pvc-1")
	if happens(second, 50*time.Millisecond) {
		t.Error("two have the lock")
	}
	other, unlockOther := locked(t, s, "pvc-2")
	if !happens(other, 10*time.Second) {
		t.Error("another volume has to wait")
	}
	unlockOther()
	unlock()
	if !happens(second, 10*time.Second) {
		t.Error("the lock never came free")
	}
	unlockSecond()
}

// A removed volume takes its lock with it. Who waited for that lock must not
// believe to have the one that the next comer makes.
func TestLockOutlivesTheRemovalOfItsFile(t *testing.T) {
	s := newStore(t)
	unlock, err := s.lock("pvc-1")
	if err != nil {
		t.Fatal(err)
	}
	waiting, unlockWaiting := locked(t, s, "pvc-1")
	if happens(waiting, 50*time.Millisecond) {
		t.Fatal("two have the lock")
	}
	if err := os.Remove(filepath.Join(s.root, "pvc-1.lock")); err != nil {
		t.Fatal(err)
	}
	unlock()
	if !happens(waiting, 10*time.Second) {
		t.Fatal("the lock never came free")
	}
	next, unlockNext := locked(t, s, "pvc-1")
	if happens(next, 50*time.Millisecond) {
		t.Error("two have the lock: one on a file that is gone")
	}
	unlockWaiting()
	unlockNext()
}

// Sidecars repeat calls that took too long, so the same call runs twice at once.
func TestCallsAtOnce(t *testing.T) {
	s := newStore(t)
	if err := s.create("source", "", 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.data("source"), append([]byte("content"), make([]byte, 4<<20-7)...), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := s.create("clone", "source", 8<<20); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		content, err := os.ReadFile(s.data("clone"))
		if err != nil || len(content) != 8<<20 || string(content[:7]) != "content" {
			t.Fatalf("%d bytes, %v", len(content), err)
		}
		for range 4 {
			all.Go(func() {
				if err := s.remove("clone"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if _, err := s.size("clone"); !errors.Is(err, errNotFound) {
			t.Fatalf("after removal: %v", err)
		}
	}
	left, err := os.ReadDir(s.root)
	if err != nil || len(left) != 2 || left[0].Name() != "source" || left[1].Name() != "source.lock" {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What a call that failed, or was killed, left must not be in the way of the next.
func TestCreateAfterAFailure(t *testing.T) {
	s := newStore(t)
	if err := s.create("clone", "source", 1<<20); !errors.Is(err, errNotFound) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.size("clone"); !errors.Is(err, errNotFound) {
		t.Errorf("half a volume counts as one: %v", err)
	}
	if err := os.WriteFile(s.data("clone")+".part", make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.create("clone", "", 1<<20); err != nil {
		t.Fatal(err)
	}
	if size, err := s.size("clone"); err != nil || size != 1<<20 {
		t.Errorf("size %d, %v", size, err)
	}
	if _, err := os.Stat(s.data("clone") + ".part"); !os.IsNotExist(err) {
		t.Errorf("the part stays: %v", err)
	}
}

func TestRemoveOfWhatWasNeverWhole(t *testing.T) {
	s := newStore(t)
	if err := s.create("clone", "source", 1<<20); !errors.Is(err, errNotFound) {
		t.Fatalf("got %v", err)
	}
	if err := s.remove("clone"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestStoreWithoutItsDirectory(t *testing.T) {
	s := store{root: filepath.Join(t.TempDir(), "gone")}
	for name, call := range map[string]func() error{
		"create": func() error { return s.create("pvc-1", "", 1<<20) },
		"remove": func() error { return s.remove("pvc-1") },
		"grow":   func() error { _, _, err := s.grow("pvc-1", 1<<20); return err },
	} {
		if err := call(); !errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotFound) {
			t.Errorf("%s: %v: a lost directory looks like a volume that never was", name, err)
		}
	}
}
