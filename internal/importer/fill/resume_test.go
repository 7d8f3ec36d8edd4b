// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// small steps, so that small images have many checkpoints. The chunk is not less
// than what is read of a header.
var small = steps{piece: 8 << 10, chunk: 64 << 10}

// little is the size of the disk that these tests fill.
const little = 2 << 20

// saved is a checkpoint with the disk as it was then.
type saved struct {
	report.Checkpoint
	directory string
}

// record fills a volume and keeps what a crash after each checkpoint would have
// left.
func record(t *testing.T, from ranged, options Options) []saved {
	t.Helper()
	directory := t.TempDir()
	var all []saved
	options.Source, options.Target, options.Size = from, directory, little
	options.Save = func(c report.Checkpoint) {
		kept := saved{c, t.TempDir()}
		content, err := os.ReadFile(filepath.Join(directory, "disk.img"))
		if err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(kept.directory, "disk.img"), content, 0o600); err != nil {
			t.Error(err)
		}
		all = append(all, kept)
	}
	if _, err := fillInSteps(context.Background(), options, small); err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no checkpoint was saved")
	}
	return all
}

// From every checkpoint on the same disk comes about, by reading the rest only.
func TestResume(t *testing.T) {
	raw := rawDisk(300<<10 + 512)
	images := map[string][]byte{"raw": raw}
	for _, name := range []string{"plain", "deflate", "scattered", "smallest-clusters", "v2"} {
		images[name] = qcow2File(t, name)
	}
	for name, file := range images {
		t.Run(name, func(t *testing.T) {
			disk := qcow2Disk()
			if name == "raw" {
				disk = raw
			}
			options := Options{Checksums: []image.Checksum{sha256Of(file), md5Of(t, file)}}
			all := record(t, rangedServer(file), options)
			// The clusters of the other image are all behind the last checkpoint.
			if c := all[len(all)-1]; name != "deflate" && !strings.Contains(c.Sink, `"written":[{"offset":`) {
				t.Errorf("nothing proves the checkpoint %+v", c.Checkpoint)
			}
			for i, c := range all {
				if want := int64(i+1) * small.chunk; c.Offset != want || c.Validator != `"v1"` || c.Size != int64(len(file)) || len(c.Hashes) != 2 {
					t.Fatalf("checkpoint %d is %+v, want offset %d", i, c.Checkpoint, want)
				}
				goOn(t, file, c, options)
				wantDisk(t, c.directory, disk, little)
			}
		})
	}
}

// goOn fills the rest of the volume, and reads no more than that.
func goOn(t *testing.T, file []byte, c saved, options Options) {
	t.Helper()
	from := rangedServer(file)
	options.Source, options.Target, options.Size, options.Resume = from, c.directory, little, &c.Checkpoint
	if _, err := fillInSteps(context.Background(), options, small); err != nil {
		t.Fatalf("from %d: %v", c.Offset, err)
	}
	if fmt.Sprint(from.opened) != fmt.Sprint([]int64{c.Offset}) {
		t.Errorf("opened at %v, want only %d", from.opened, c.Offset)
	}
}

// A checksum that the bytes do not have is noticed after a restart, too.
func TestResumeComparesChecksums(t *testing.T) {
	file := qcow2File(t, "plain")
	c := record(t, rangedServer(file), Options{Checksums: []image.Checksum{sha256Of(file)}})[1]
	wrong := sha256Of(file)
	wrong.Sum[3] ^= 1
	_, err := fillInSteps(context.Background(), Options{
		Source: rangedServer(file), Target: c.directory, Size: little, Resume: &c.Checkpoint, Checksums: []image.Checksum{wrong},
	}, small)
	var mismatch *image.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("got %v", err)
	}
}

// A checkpoint that is of no use costs a beginning, nothing else.
func TestResumeThatIsImpossible(t *testing.T) {
	raw, qcow2 := rawDisk(300<<10), qcow2File(t, "plain")
	changed := func(change func(c *report.Checkpoint)) func(*ranged, *saved) {
		return func(_ *ranged, s *saved) { change(&s.Checkpoint) }
	}
	for _, tc := range []struct {
		title  string
		file   []byte
		change func(from *ranged, s *saved)
		opened string
	}{
		{"unknown method", raw, changed(func(c *report.Checkpoint) { c.Sink = `{"method":"magic"}` }), "[0]"},
		{"no sink", raw, changed(func(c *report.Checkpoint) { c.Sink = "" }), "[0]"},
		{"broken sink", raw, changed(func(c *report.Checkpoint) { c.Sink = "{" }), "[0]"},
		{"no validator", raw, changed(func(c *report.Checkpoint) { c.Validator = "" }), "[0]"},
		{"another validator", raw, changed(func(c *report.Checkpoint) { c.Validator = `"v0"` }), "[0]"},
		{"offset inside a chunk", raw, changed(func(c *report.Checkpoint) { c.Offset++ }), "[0]"},
		{"no hash", raw, changed(func(c *report.Checkpoint) { c.Hashes = nil }), "[0]"},
		{"broken hash", raw, changed(func(c *report.Checkpoint) { c.Hashes["sha256"] = []byte("x") }), "[0]"},
		{"disk is gone", raw, func(_ *ranged, s *saved) { os.Remove(filepath.Join(s.directory, "disk.img")) }, "[0]"},
		{"disk was made anew", raw, func(_ *ranged, s *saved) {
			_ = os.Truncate(filepath.Join(s.directory, "disk.img"), 0)
			_ = os.Truncate(filepath.Join(s.directory, "disk.img"), little)
		}, "[0]"},
		{"disk of another image", raw, func(_ *ranged, s *saved) {
			_ = os.WriteFile(filepath.Join(s.directory, "disk.img"), qcow2Disk(), 0o600)
			_ = os.Truncate(filepath.Join(s.directory, "disk.img"), little)
		}, "[0]"},
		{"nothing proves the disk", raw, changed(func(c *report.Checkpoint) { c.Sink = `{"method":"plain","blank":false}` }), "[0]"},
		{"a proof outside of the disk", raw, changed(func(c *report.Checkpoint) {
			c.Sink = `{"method":"plain","blank":true,"written":[{"offset":9223372036854775807,"length":4096}]}`
		}), "[0]"},
		{"disk of another size", raw, func(_ *ranged, s *saved) { _ = os.Truncate(filepath.Join(s.directory, "disk.img"), 512) }, "[0]"},
		{"other tables", qcow2, changed(func(c *report.Checkpoint) { c.Sink = `{"method":"scatter","blank":true,"tables":"ab"}` }), fmt.Sprintf("[%d 0]", small.chunk)},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			options := Options{Checksums: []image.Checksum{sha256Of(tc.file)}}
			c := record(t, rangedServer(tc.file), options)[0]
			from := rangedServer(tc.file)
			tc.change(&from, &c)
			options.Source, options.Target, options.Size, options.Resume = from, c.directory, little, &c.Checkpoint
			if _, err := fillInSteps(context.Background(), options, small); err != nil {
				t.Fatal(err)
			}
			disk := tc.file
			if tc.title == "other tables" {
				disk = qcow2Disk()
			}
			wantDisk(t, c.directory, disk, little)
			if got := fmt.Sprint(from.opened); got != tc.opened {
				t.Errorf("opened at %s, want %s", got, tc.opened)
			}
		})
	}
}

// A source that only fails for now leaves the checkpoint as good as it is.
func TestResumeOfASourceThatIsAway(t *testing.T) {
	file := rawDisk(300 << 10)
	c := record(t, rangedServer(file), Options{})[3]
	away := &source.Error{Reason: report.SourceUnreachable, Message: "away"}
	from := rangedServer(file)
	from.hook = func(int64) error { return away }
	_, err := fillInSteps(context.Background(), Options{Source: from, Target: c.directory, Size: little, Resume: &c.Checkpoint}, small)
	if !errors.Is(err, away) || len(from.opened) != 1 {
		t.Errorf("got %v, opened at %v", err, from.opened)
	}
	if _, err := fillInSteps(context.Background(), Options{Source: rangedServer(file), Target: c.directory, Size: little, Resume: &c.Checkpoint}, small); err != nil {
		t.Fatal(err)
	}
	wantDisk(t, c.directory, file, little)
}

// Sources that could not go on from a checkpoint cause none.
func TestNoCheckpointWithoutAWayToUseIt(t *testing.T) {
	file := rawDisk(300 << 10)
	unproven := rangedServer(file)
	unproven.validator = ""
	unsized := rangedServer(file)
	unsized.sized = false
	for name, from := range map[string]source.Source{
		"not resumable": newServer(file), "no validator": unproven, "unknown length": unsized, "compressed": rangedServer(gzipped(t, file)),
	} {
		t.Run(title(name), func(t *testing.T) {
			_, err := fillInSteps(context.Background(), Options{Source: from, Target: t.TempDir(), Size: little, Save: func(c report.Checkpoint) {
				t.Errorf("saved %+v", c)
			}}, small)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The pipeline never runs further ahead of what is durable than two chunks, and
// nothing counts as durable before every consumer is through with it.
func TestPipelineWaitsForTheVolume(t *testing.T) {
	const length = 1 << 20
	var read atomic.Int64
	var seen int64
	c := &counting{seen: &seen}
	marks := 0
	l := &pipeline{steps: small, consumers: []consumer{c}, interrupt: func() {}, reach: func(_ context.Context, m *mark) error {
		marks++
		time.Sleep(time.Millisecond) // The file is read on meanwhile.
		if c.settled.Load() < m.offset {
			t.Errorf("%d is reached, settled is %d", m.offset, c.settled.Load())
		}
		if durable := m.offset - small.chunk; read.Load() > durable+2*small.chunk+small.piece {
			t.Errorf("%d bytes are read while only %d are durable", read.Load(), durable)
		}
		return nil
	}}
	end, err := l.run(context.Background(), readerFunc(func(p []byte) (int, error) {
		n := min(int64(len(p)), length-read.Load())
		if n == 0 {
			return 0, io.EOF
		}
		read.Add(n)
		return int(n), nil
	}), 0)
	if end != length || err != nil || seen != length || marks != length/int(small.chunk)+1 {
		t.Errorf("end %d, %v, seen %d, %d marks", end, err, seen, marks)
	}
}

type counting struct {
	seen    *int64
	settled atomic.Int64
}

func (c *counting) take(_ context.Context, p *piece) error {
	*c.seen += int64(len(p.data))
	return nil
}

func (c *counting) settle(_ context.Context, m *mark) error {
	c.settled.Store(m.offset)
	return nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPipelineEndsWithTheFirstError(t *testing.T) {
	cause := errors.New("the volume is gone")
	for _, tc := range []struct {
		title string
		at    func(l *pipeline)
	}{
		{"beside", func(l *pipeline) { l.beside = func(context.Context) error { return cause } }},
		{"reach", func(l *pipeline) { l.reach = func(context.Context, *mark) error { return cause } }},
		{"consumer", func(l *pipeline) { l.consumers = append(l.consumers, failing{cause}) }},
	} {
		t.Run(tc.title, func(t *testing.T) {
			interrupted := make(chan struct{})
			var seen int64
			l := &pipeline{steps: small, consumers: []consumer{&counting{seen: &seen}}, interrupt: sync.OnceFunc(func() { close(interrupted) }),
				reach: func(context.Context, *mark) error { return nil }}
			tc.at(l)
			calls := 0
			_, err := l.run(context.Background(), readerFunc(func(p []byte) (int, error) {
				if calls++; calls < 20 {
					return len(p), nil
				}
				<-interrupted // As a source whose context ends.
				return 0, context.Canceled
			}), 0)
			if !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) take(context.Context, *piece) error  { return f.err }
func (f failing) settle(context.Context, *mark) error { return nil }
