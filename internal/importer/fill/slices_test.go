// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// sliced makes slices of 4, 8, 16… MiB: no time passes on a fake clock, so each is
// twice the one before.
var sliced = steps{piece: 64 << 10, chunk: 1 << 20, slice: 4 << 20}

// slicedSize is the size of the disk that these tests fill, slicedBlocks that of the
// image in MiB. The file is one MiB longer: its table is in front.
const (
	slicedSize   = 80 << 20
	slicedBlocks = 70
)

// inSlices converts an image and keeps what a crash after each checkpoint would have
// left.
func inSlices(t *testing.T, file []byte, checksums []image.Checksum) []saved {
	t.Helper()
	directory := t.TempDir()
	var all []saved
	_, err := fillInSteps(t.Context(), Options{
		Source: rangedServer(file), Target: directory, Size: slicedSize, Checksums: checksums, Converter: convertWith(t, "forwards"),
		Clock: clocktesting.NewFakeClock(time.Now()), Save: func(c report.Checkpoint) {
			kept := saved{c, t.TempDir()}
			if content, err := os.ReadFile(filepath.Join(directory, "disk.img")); err != nil || os.WriteFile(filepath.Join(kept.directory, "disk.img"), content, 0o600) != nil {
				t.Error(err)
			}
			all = append(all, kept)
		},
	}, sliced)
	if err != nil {
		t.Fatal(err)
	}
	wantDisk(t, directory, file[:slicedBlocks<<20], slicedSize)
	return all
}

func sinkOf(t *testing.T, c report.Checkpoint) sink {
	t.Helper()
	var kept sink
	if err := json.Unmarshal([]byte(c.Sink), &kept); err != nil {
		t.Fatal(err)
	}
	return kept
}

// After a crash the converter goes on with the slice that it was at. Without a
// checksum the file is read from there on, too.
func TestConversionGoesOn(t *testing.T) {
	file := vdiFile(slicedBlocks)
	for _, checksums := range [][]image.Checksum{nil, {sha256Of(file), md5Of(t, file)}} {
		all := inSlices(t, file, checksums)
		var converted []int64
		for _, c := range all {
			converted = append(converted, sinkOf(t, c.Checkpoint).Converted>>20)
		}
		if fmt.Sprint(converted) != "[4 12 28 60]" {
			t.Fatalf("checkpoints at %v MiB", converted)
		}
		last := all[len(all)-1]
		// What is before the slice has to stay as it is: it is not converted again.
		mark := []byte("converted before the crash")
		disk, err := os.OpenFile(filepath.Join(last.directory, "disk.img"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := disk.WriteAt(mark, 100); err != nil || disk.Close() != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(file[:slicedBlocks<<20])
		copy(want[100:], mark)
		from := rangedServer(file)
		result, err := fillInSteps(t.Context(), Options{
			Source: from, Target: last.directory, Size: slicedSize, Checksums: checksums, Resume: &last.Checkpoint, Converter: convertWith(t, "forwards"),
		}, sliced)
		if err != nil {
			t.Fatal(err)
		}
		wantDisk(t, last.directory, want, slicedSize)
		if begun := last.Offset; checksums == nil && (begun < 40<<20 || fmt.Sprint(from.opened) != fmt.Sprint([]int64{begun}) || result.TransferredBytes > 40<<20) {
			t.Errorf("opened at %v, %d bytes transferred", from.opened, result.TransferredBytes)
		}
		if checksums != nil && fmt.Sprint(from.opened) != "[0]" {
			t.Errorf("opened at %v: a checksum is of the whole file", from.opened)
		}
	}
}

// What was converted before the crash and what comes after it has to be one file.
func TestConversionThatGoesOnComparesTheFile(t *testing.T) {
	file := vdiFile(slicedBlocks)
	checksums := []image.Checksum{sha256Of(file)}
	for _, c := range inSlices(t, file, checksums) {
		kept := sinkOf(t, c.Checkpoint)
		kept.Seen.Digest = strings.Repeat("0", 64)
		encoded, err := json.Marshal(kept)
		if err != nil {
			t.Fatal(err)
		}
		c.Sink = string(encoded)
		from := rangedServer(file)
		_, err = fillInSteps(t.Context(), Options{
			Source: from, Target: c.directory, Size: slicedSize, Checksums: checksums, Resume: &c.Checkpoint, Converter: convertWith(t, "forwards"),
		}, sliced)
		if err != nil {
			t.Fatal(err)
		}
		wantDisk(t, c.directory, file[:slicedBlocks<<20], slicedSize)
		if fmt.Sprint(from.opened) != "[0 0]" {
			t.Errorf("opened at %v, want a new beginning", from.opened)
		}
	}
}

func TestConversionThatCannotGoOn(t *testing.T) {
	file := vdiFile(slicedBlocks)
	plain := inSlices(t, file, nil)[1]
	for title, change := range map[string]func(c *report.Checkpoint, s *sink){
		"inside a block":       func(c *report.Checkpoint, _ *sink) { c.Offset++ },
		"nothing converted":    func(_ *report.Checkpoint, s *sink) { s.Converted = 0 },
		"too much converted":   func(_ *report.Checkpoint, s *sink) { s.Converted = 70 << 20 },
		"no proof":             func(_ *report.Checkpoint, s *sink) { s.Written = nil },
		"another image":        func(_ *report.Checkpoint, s *sink) { s.Image.VirtualSize++ },
		"another version":      func(c *report.Checkpoint, _ *sink) { c.Validator = `"v0"` },
		"checksum is new":      func(*report.Checkpoint, *sink) {},
		"what is there is not": func(_ *report.Checkpoint, s *sink) { s.Written[0].Digest = "ab" },
	} {
		t.Run(strings.ReplaceAll(title, " ", "_"), func(t *testing.T) {
			kept, c := sinkOf(t, plain.Checkpoint), plain.Checkpoint
			change(&c, &kept)
			encoded, err := json.Marshal(kept)
			if err != nil {
				t.Fatal(err)
			}
			c.Sink = string(encoded)
			options := Options{Source: rangedServer(file), Target: plain.directory, Size: slicedSize, Resume: &c, Converter: convertWith(t, "forwards")}
			if title == "checksum is new" {
				options.Checksums = []image.Checksum{sha256Of(file)}
			}
			if _, err := fillInSteps(context.Background(), options, sliced); err != nil {
				t.Fatal(err)
			}
			wantDisk(t, plain.directory, file[:slicedBlocks<<20], slicedSize)
		})
	}
}

// Where nothing could go on there is one run of the converter for the whole disk.
func TestConversionInOne(t *testing.T) {
	file := vdiFile(slicedBlocks)
	from := rangedServer(file)
	from.validator = ""
	directory := t.TempDir()
	_, err := fillInSteps(t.Context(), Options{Source: from, Target: directory, Size: slicedSize, Converter: convertWith(t, "forwards"),
		Save: func(c report.Checkpoint) { t.Errorf("saved %+v", c) }}, sliced)
	if err != nil {
		t.Fatal(err)
	}
	wantDisk(t, directory, file, slicedSize)
}

func TestArgumentsOfASlice(t *testing.T) {
	v := fresh(t)
	job := conversion{format: "vdi", part: span{64 << 20, 32 << 20}, socket: "/tmp/fill1/image", export: "image", disk: &disk{Volume: v, blank: true}}
	got, err := job.arguments()
	if err != nil {
		t.Fatal(err)
	}
	from := `json:{"driver":"raw","file":{"driver":"vdi","file":{"driver":"nbd","export":"image","server":{"path":"/tmp/fill1/image","type":"unix"}},"read-only":true},"offset":67108864,"size":33554432}`
	to := `json:{"driver":"raw","file":{"driver":"file","filename":"` + v.Path() + `"},"offset":67108864,"size":33554432}`
	if len(got) < 2 || got[len(got)-2] != from || got[len(got)-1] != to {
		t.Errorf("got  %q\nwant %q\n     %q", got, from, to)
	}
}

// Processor time is bounded for the disk, not for each slice.
func TestSlicesShareABound(t *testing.T) {
	converter := Converter{Processor: 2 * time.Minute, ProcessorPerGiB: time.Minute}
	for spent, want := range map[time.Duration]uint64{0: 240, 100*time.Second + time.Millisecond: 139, time.Hour: 1} {
		if got := converter.processorSeconds(conversion{virtualSize: 1 << 30, spent: spent}); got != want {
			t.Errorf("%s spent: %d seconds, want %d", spent, got, want)
		}
	}
}
