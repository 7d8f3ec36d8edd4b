// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestTable(t *testing.T) {
	got := table{
		{title: "fast", download: 3 * time.Second, convert: 4 * time.Second, data: 5 * time.Second, ready: 10 * time.Second, cdi: 20 * time.Second},
		{title: "slow", download: 3 * time.Second, convert: 4 * time.Second, data: 6 * time.Second, ready: 11 * time.Second, cdi: 20 * time.Second},
		{title: "broken", download: 1500 * time.Millisecond},
	}.String()
	want := `| work | curl + sync | local conversion + sync | data phase | of the limit | created to Ready | CDI | of CDI |
|---|---|---|---|---|---|---|---|
| fast | 3.0 s | 4.0 s | 5.0 s | 1.25 | 10.0 s | 20.0 s | 0.50 |
| slow | 3.0 s | 4.0 s | 6.0 s | **1.50** | 11.0 s | 20.0 s | **0.55** |
| broken | 1.5 s | - | - | - | - | - | - |

The data phase may take at most 1.25 of the slower limit, and created to Ready at most 0.50 of CDI's; bold is what does not.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (table{}).String(); got != "" {
		t.Errorf("empty table: %q", got)
	}
}

func TestWriteDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := writeDisk(path, 8, 64); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 64*mib {
		t.Fatalf("%v, %v", info, err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used < 8*mib || used > 16*mib {
		t.Errorf("%d bytes are used", used)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	head := make([]byte, 512)
	if _, err := io.ReadFull(file, head); err != nil || head[510] != 0x55 || head[511] != 0xaa {
		t.Errorf("no boot sector: %v", err)
	}
	if err := writeDisk(path, 65, 64); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("error: %v", err)
	}
}

func TestDownloadAndPackedAreMeasured(t *testing.T) {
	dir := t.TempDir()
	file, err := images{dir: dir, options: options{sparseData: 1, sparseDisk: 4}}.sparse(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	again, err := images{dir: dir}.sparse(context.Background())
	if again != file || err != nil {
		t.Errorf("made twice: %s, %v", again, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestIsReady(t *testing.T) {
	for phase, want := range map[v1alpha2.DiskPhase]bool{"": false, "Pending": false, "Provisioning": false, "Ready": true} {
		if got, err := isReady(&v1alpha2.VirtualDisk{Status: v1alpha2.VirtualDiskStatus{Phase: phase}}); got != want || err != nil {
			t.Errorf("%s: %t, %v", phase, got, err)
		}
	}
	if _, err := isReady(&v1alpha2.VirtualDisk{Status: v1alpha2.VirtualDiskStatus{Phase: "Failed"}}); err == nil {
		t.Error("waits for a disk that has failed")
	}
}

func TestEveryBoundHasItsRow(t *testing.T) {
	var titles []string
	for _, w := range works(options{data: 2048, disk: 10240, sparseData: 1024, sparseDisk: 20480, packedData: 1024}) {
		titles = append(titles, w.title)
	}
	want := []string{
		"2048 MiB of data in a 10240 MiB qcow2, HTTP to a Block volume",
		"2048 MiB of data in a 10240 MiB qcow2 with its sha256, HTTP to a Block volume",
		"2048 MiB of data in a 10240 MiB qcow2, HTTP to DVCR",
		"2048 MiB of data in a 10240 MiB qcow2, DVCR to a Block volume",
		"1024 MiB of data in a sparse 20480 MiB raw, HTTP to a Block volume",
		"1024 MiB of data in a sparse 20480 MiB raw, HTTP to a Block volume of given size",
		"2048 MiB of data in a 10240 MiB streamOptimized vmdk, HTTP to a Block volume",
		"1024 MiB of data in a raw.xz, HTTP to a Block volume",
	}
	if strings.Join(titles, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows:\n%s", strings.Join(titles, "\n"))
	}
}
