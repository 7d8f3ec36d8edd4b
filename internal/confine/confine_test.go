// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// programs is what a shell needs to run.
var programs = []string{"/bin", "/lib", "/lib64", "/usr", "/etc/ld.so.cache"}

// A program opens what it was given and nothing else, as far as the kernel can do that.
func TestProgramOpensOnlyItsFiles(t *testing.T) {
	directory := t.TempDir()
	path := func(name string) string { return filepath.Join(directory, name) }
	for _, name := range []string{"given", "target", "secret"} {
		if err := os.WriteFile(path(name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := Files{Readable: append([]string{path("given")}, programs...), Writable: []string{os.DevNull, path("target")}}
	for _, tc := range []struct {
		command string
		works   bool
	}{
		{"cat given", true},
		{"echo new >> target", true},
		{"echo new >> given", false},
		{"cat secret", false},
		{"echo new > another", false},
		{"rm target", false},
		{"ls .", false},
	} {
		err := files.Run(func() error {
			command := exec.Command("/bin/sh", "-c", tc.command)
			command.Dir = directory
			return command.Run()
		})
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", tc.command, err)
		}
		if IsPossible() && (err == nil) != tc.works {
			t.Errorf("%s: %v", tc.command, err)
		}
	}
	// Whoever started it is not confined.
	if content, err := os.ReadFile(path("secret")); err != nil || string(content) != "secret" {
		t.Errorf("%q, %v", content, err)
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	called := false
	err := Files{Writable: []string{"/nonexistent"}}.Run(func() error {
		called = true
		return nil
	})
	if IsPossible() && (!errors.Is(err, os.ErrNotExist) || called) {
		t.Errorf("got %v, called %t", err, called)
	}
	if err := (Files{Readable: []string{"/nonexistent"}}).Run(func() error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestErrorIsTheProgramsOwn(t *testing.T) {
	own := errors.New("own")
	if err := (Files{}).Run(func() error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
}
