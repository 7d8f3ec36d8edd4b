// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// written lists the MiB of a file that are not zero.
func written(t *testing.T, path string) []int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for n := 0; n < len(content); n += mib {
		if !bytes.Equal(content[n:n+mib], make([]byte, mib)) {
			list = append(list, n/mib)
		}
	}
	return list
}

// The table says how much data was moved, so that much has to be there.
func TestDisksHoldAllTheirData(t *testing.T) {
	for _, tt := range []struct {
		data, disk int64
		want       []int
	}{
		{1, 1, []int{0}},
		{1, 20, []int{0}},
		{4, 4, []int{0, 1, 2, 3}},
		{5, 5, []int{0, 1, 2, 3, 4}},
		{6, 16, []int{0, 1, 2, 8, 9, 10}},
		{8, 24, []int{0, 1, 2, 3, 12, 13, 14, 15}},
		{9, 12, []int{0, 1, 2, 4, 5, 6, 8, 9, 10}},
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.data, tt.disk), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk.raw")
			if err := writeDisk(path, tt.data, tt.disk); err != nil {
				t.Fatal(err)
			}
			if got := written(t, path); !slices.Equal(got, tt.want) {
				t.Errorf("data at %v, want %v", got, tt.want)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != tt.disk*mib {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

func TestDisksThatCannotBe(t *testing.T) {
	for _, tt := range [][2]int64{{0, 10}, {-1, 10}, {11, 10}, {0, 0}} {
		path := filepath.Join(t.TempDir(), "disk.raw")
		err := writeDisk(path, tt[0], tt[1])
		if err == nil || !strings.Contains(err.Error(), "do not fit") {
			t.Errorf("%v: %v", tt, err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%v: left a file: %v", tt, err)
		}
	}
}

// Two runs are compared, so they have to move the same bytes.
func TestDisksAreAlwaysTheSame(t *testing.T) {
	dir := t.TempDir()
	var contents [2][]byte
	for n := range contents {
		path := filepath.Join(dir, "disk.raw")
		if err := writeDisk(path, 2, 3); err != nil {
			t.Fatal(err)
		}
		var err error
		if contents[n], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("the second disk is another one")
	}
	if bytes.ContainsFunc(contents[0][512:2*mib], func(r rune) bool { return r > 0x0f }) {
		t.Error("the data cannot be compressed as that of real disks")
	}
}

func TestImageThatCouldNotBeMadeIsNotKept(t *testing.T) {
	i := images{dir: t.TempDir()}
	calls := 0
	broken := func(path string) error {
		calls++
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		return errors.New("no space left on device")
	}
	for range 2 {
		if _, err := i.once("disk.vmdk", broken); err == nil || err.Error() != "no space left on device" {
			t.Errorf("got %v", err)
		}
	}
	if calls != 2 {
		t.Errorf("tried %d times", calls)
	}
	path, err := i.once("disk.vmdk", func(path string) error { calls++; return os.WriteFile(path, []byte("whole"), 0o600) })
	if content, _ := os.ReadFile(path); err != nil || string(content) != "whole" {
		t.Errorf("got %q, %v", content, err)
	}
	if _, err := i.once("disk.vmdk", broken); err != nil || calls != 3 {
		t.Errorf("made again: %d calls, %v", calls, err)
	}
}

// programs puts scripts in the place of what the measurement calls.
func programs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

func TestConvertersGetTheRawDiskAndTheTarget(t *testing.T) {
	dir := t.TempDir()
	programs(t, map[string]string{
		"qemu-img": `echo "$@" >>` + dir + `/calls; for a in "$@"; do source=$target; target=$a; done; test -s "$source" && echo made >"$target"`,
		"xz":       `echo xz "$@" >>` + dir + `/calls; for a in "$@"; do last=$a; done; mv "$last" "$last.xz"`,
	})
	i := images{dir: dir, options: options{data: 1, disk: 2, packedData: 1}}
	var names []string
	for _, create := range []func(context.Context) (string, error){i.qcow2, i.vmdk, i.packed} {
		path, err := create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, filepath.Base(path))
	}
	if !slices.Equal(names, []string{"disk.qcow2", "disk.vmdk", "packed.raw.xz"}) {
		t.Errorf("made %v", names)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	want := strings.ReplaceAll(`convert -f raw -O qcow2 DIR/disk.qcow2.raw DIR/disk.qcow2
convert -f raw -O vmdk -o subformat=streamOptimized DIR/disk.vmdk.raw DIR/disk.vmdk
xz -1 -T0 DIR/packed.raw
`, "DIR", dir)
	if err != nil || string(calls) != want {
		t.Errorf("called\n%s%v, want\n%s", calls, err, want)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.raw"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFailedConverterSaysWhy(t *testing.T) {
	dir := t.TempDir()
	programs(t, map[string]string{"qemu-img": "echo 'qemu-img: no such format' >&2; exit 1"})
	_, err := images{dir: dir, options: options{data: 1, disk: 1}}.qcow2(t.Context())
	if err == nil || err.Error() != "qemu-img: exit status 1: qemu-img: no such format" {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// The second of two downloads counts, and nothing of them stays.
func TestDownloadIsMeasuredTwiceAndSynced(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.qcow2")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	programs(t, map[string]string{"curl": `echo "$@" >>` + dir + `/calls
while [ $# -gt 1 ]; do if [ "$1" = --output ]; then echo x >"$2"; fi; shift; done`})
	took, err := download(t.Context(), file, dir)
	if err != nil || took <= 0 {
		t.Fatalf("%s, %v", took, err)
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if lines := strings.Split(strings.TrimSpace(string(calls)), "\n"); err != nil || len(lines) != 2 || !strings.HasSuffix(lines[0], "/disk.qcow2") {
		t.Errorf("calls %q, %v", lines, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "limit.download")); !os.IsNotExist(err) {
		t.Errorf("left behind: %v", err)
	}
}

func TestConvertMeasuresTheRightProgram(t *testing.T) {
	dir := t.TempDir()
	programs(t, map[string]string{
		"qemu-img": `sleep 0.05; for a in "$@"; do last=$a; done; echo disk >"$last"`,
		"xz":       `if [ "$3" = ` + dir + `/broken.xz ]; then exit 2; fi; echo disk`,
	})
	if took, err := convert(t.Context(), filepath.Join(dir, "disk.qcow2"), dir, false); err != nil || took < 50*time.Millisecond {
		t.Errorf("qemu-img: %s, %v", took, err)
	}
	if took, err := convert(t.Context(), filepath.Join(dir, "disk.raw.xz"), dir, true); err != nil || took <= 0 {
		t.Errorf("xz: %s, %v", took, err)
	}
	if _, err := convert(t.Context(), filepath.Join(dir, "broken.xz"), dir, true); err == nil || err.Error() != "exit status 2" {
		t.Errorf("broken: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestChecksumIsOfTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := sha256Of(path)
	if err != nil || got.SHA256 != "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := sha256Of(path + ".missing"); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}
