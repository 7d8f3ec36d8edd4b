// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

const (
	grainSize = 64 << 10
	// firstMark is the sector that the grains of these tests' images begin at.
	firstMark = 22
)

// vmdkStream is a streamOptimized VMDK under construction, as programs make it that
// write the file in one go: tables behind their grains, and a footer.
type vmdkStream struct{ bytes.Buffer }

func newVMDKStream(size int) *vmdkStream {
	const text = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\nRW 1 SPARSE \"disk.vmdk\"\n"
	le := binary.LittleEndian
	f := make([]byte, firstMark*512)
	copy(f, "KDMV")
	le.PutUint32(f[4:], 3)
	le.PutUint32(f[8:], 1|1<<16|1<<17)
	le.PutUint64(f[12:], uint64(size/512))
	le.PutUint64(f[20:], grainSize/512)
	le.PutUint64(f[28:], 1)
	le.PutUint64(f[36:], 20)
	le.PutUint32(f[44:], 512)
	le.PutUint64(f[56:], 1<<64-1)
	le.PutUint64(f[64:], firstMark)
	copy(f[73:], "\n \r\n")
	le.PutUint16(f[77:], 1)
	copy(f[512:], text)
	s := &vmdkStream{}
	s.Write(f)
	return s
}

func (s *vmdkStream) pad() { s.Write(make([]byte, -s.Len()&511)) }

// mark writes one that is no grain, with what belongs to it.
func (s *vmdkStream) mark(kind uint32, content []byte) {
	m := make([]byte, 512)
	binary.LittleEndian.PutUint64(m, uint64(len(content)+511)/512)
	binary.LittleEndian.PutUint32(m[12:], kind)
	s.Write(m)
	s.Write(content)
	s.pad()
}

func (s *vmdkStream) grain(offset int, content []byte) {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(content)
	_ = w.Close()
	s.Write(binary.LittleEndian.AppendUint64(nil, uint64(offset/512)))
	s.Write(binary.LittleEndian.AppendUint32(nil, uint32(packed.Len())))
	s.Write(packed.Bytes())
	s.pad()
}

// finish writes what programs write at the end. The directory names no table: nobody
// here is to look at them.
func (s *vmdkStream) finish() []byte {
	place := s.Len()/512 + 1
	s.mark(2, make([]byte, 512))
	footer := bytes.Clone(s.Bytes()[:512])
	binary.LittleEndian.PutUint64(footer[56:], uint64(place))
	s.mark(3, footer)
	s.Write(make([]byte, 512))
	return bytes.Clone(s.Bytes())
}

// streamed packs a disk, with a table behind every fourth grain.
func streamed(disk []byte) []byte {
	s := newVMDKStream(len(disk))
	for at, count := 0, 0; at < len(disk); at += grainSize {
		content := disk[at:min(at+grainSize, len(disk))]
		if volume.IsZero(content) {
			continue
		}
		s.grain(at, content)
		if count++; count%4 == 0 {
			s.mark(1, make([]byte, 2048))
		}
	}
	return s.finish()
}

// grainyDisk has grains that hold nothing, and ends within one.
func grainyDisk() []byte {
	disk := rawDisk(20*grainSize + 512)
	clear(disk[3*grainSize : 5*grainSize])
	clear(disk[9*grainSize : 10*grainSize])
	disk[20*grainSize] = 1
	return disk
}

// noConverter is what must not be needed.
var noConverter = Converter{Command: "/no/converter"}

func TestGrains(t *testing.T) {
	disk := grainyDisk()
	for name, tc := range map[string]struct{ file, disk []byte }{
		"of QEMU":       {qemuStream(t), qcow2Disk()},
		"with a footer": {streamed(disk), disk},
	} {
		for _, inSteps := range []steps{usualSteps, small, {piece: 1 << 10, chunk: 16 << 10}} {
			t.Run(title(name, inSteps.piece), func(t *testing.T) {
				from, directory := rangedServer(tc.file), t.TempDir()
				got, err := fillInSteps(context.Background(), Options{Source: from, Target: directory, Size: little,
					Checksums: []image.Checksum{sha256Of(tc.file)}, Converter: noConverter}, inSteps)
				if err != nil {
					t.Fatal(err)
				}
				wantDisk(t, directory, tc.disk, little)
				if got.Format != "vmdk" || got.VirtualSizeBytes != int64(len(tc.disk)) || got.StoredSizeBytes != int64(len(tc.file)) {
					t.Errorf("got %+v", got)
				}
				if fmt.Sprint(from.opened) != "[0]" {
					t.Errorf("opened at %v", from.opened)
				}
			})
		}
	}
}

// qemuStream holds the same disk as the qcow2 images.
func qemuStream(t *testing.T) []byte {
	t.Helper()
	return unpackedFile(t, "..", "..", "image", "testdata", "streamOptimized.vmdk.gz")
}

// From every checkpoint on the rest is enough, wherever in a grain it is.
func TestGrainsGoOn(t *testing.T) {
	disk := grainyDisk()
	file := streamed(disk)
	options := Options{Checksums: []image.Checksum{sha256Of(file)}, Converter: noConverter}
	all := record(t, rangedServer(file), options)
	if len(all) < 8 {
		t.Fatalf("only %d checkpoints", len(all))
	}
	for _, c := range all {
		goOn(t, file, c, options)
		wantDisk(t, c.directory, disk, little)
	}
}

// A checkpoint that does not fit costs a beginning.
func TestGrainsThatCannotGoOn(t *testing.T) {
	disk := grainyDisk()
	file := streamed(disk)
	for _, tc := range []struct {
		title  string
		change func(s *sink)
	}{
		{"no state", func(s *sink) { s.Grains = nil }},
		{"state of another method", func(s *sink) { s.Method = methodPlain }},
		{"before the first grain", func(s *sink) { s.Grains.At = 512 }},
		{"far behind", func(s *sink) { s.Grains.At = firstMark * 512 }},
		{"before the disk", func(s *sink) { s.Grains.Next = -1 }},
		{"another disk", func(s *sink) { s.Image.VirtualSize += 512 }},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			c := record(t, rangedServer(file), Options{})[4]
			var kept sink
			if err := json.Unmarshal([]byte(c.Sink), &kept); err != nil {
				t.Fatal(err)
			}
			tc.change(&kept)
			changed, err := json.Marshal(kept)
			if err != nil {
				t.Fatal(err)
			}
			c.Sink = string(changed)
			from := rangedServer(file)
			if _, err := fillInSteps(context.Background(), Options{Source: from, Target: c.directory, Size: little, Resume: &c.Checkpoint, Converter: noConverter}, small); err != nil {
				t.Fatal(err)
			}
			wantDisk(t, c.directory, disk, little)
			if last := from.opened[len(from.opened)-1]; last != 0 {
				t.Errorf("opened at %v", from.opened)
			}
		})
	}
}

// An image that only its tables explain is left to the converter.
func TestGrainsOutOfOrder(t *testing.T) {
	content := bytes.Repeat([]byte("grain"), grainSize)[:grainSize]
	for _, tc := range []struct {
		title string
		write func(s *vmdkStream)
	}{
		{"backwards", func(s *vmdkStream) { s.grain(grainSize, content); s.grain(0, content) }},
		{"twice", func(s *vmdkStream) { s.grain(0, content); s.grain(0, content) }},
		{"unknown mark", func(s *vmdkStream) { s.grain(0, content); s.mark(9, make([]byte, 512)) }},
		{"gap", func(s *vmdkStream) { s.grain(0, content); s.Write(make([]byte, 512)); s.grain(grainSize, content) }},
		{"behind the disk", func(s *vmdkStream) { s.grain(4*grainSize, content) }},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			s := newVMDKStream(4 * grainSize)
			tc.write(s)
			from := rangedServer(s.finish())
			_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: little, Converter: noConverter})
			if err == nil || !strings.Contains(err.Error(), "start the converter") {
				t.Errorf("got %v", err)
			}
			if fmt.Sprint(from.opened) != "[0 0]" {
				t.Errorf("opened at %v", from.opened)
			}
		})
	}
}

// The file of QEMU has no footer: what is missing of it is known from its tables.
func TestGrainsThatAreMissing(t *testing.T) {
	for _, keep := range []int{65536, 66048, 70000} {
		file := qemuStream(t)
		clear(file[keep:])
		_, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: t.TempDir(), Size: little, Converter: noConverter})
		if err == nil || !strings.Contains(err.Error(), "start the converter") && !isPermanent(err) {
			t.Errorf("%d bytes: %v", keep, err)
		}
	}
}

func TestDamagedGrain(t *testing.T) {
	file := streamed(grainyDisk())
	file[firstMark*512+2000] ^= 0xff
	_, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: t.TempDir(), Size: little, Converter: noConverter})
	wantFailure(t, err, report.ImageCorrupt, "the grain for byte 0 of the VMDK image's disk cannot be unpacked")
}

func TestGrainsDoNotFit(t *testing.T) {
	file := streamed(grainyDisk())
	_, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: t.TempDir(), Size: 1 << 20, Converter: noConverter})
	wantFailure(t, err, report.VolumeTooSmall, "1311232 bytes")
}

// What no grain is for has to read as zeros on a disk that held something else.
func TestUsedDiskGetsGrains(t *testing.T) {
	disk := grainyDisk()
	file := streamed(disk)
	stream, err := image.OpenGrainStream(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	d, directory := usedDisk(t)
	l := &pipeline{steps: small, consumers: []consumer{newGrains(d, stream)}, interrupt: func() {}, reach: func(context.Context, *mark) error { return nil }}
	if _, err := l.run(context.Background(), bytes.NewReader(file), 0); err != nil {
		t.Fatal(err)
	}
	wantDisk(t, directory, disk, little)
}

// BenchmarkGrains is the processor time of unpacking, for half of which there is a
// second processor.
func BenchmarkGrains(b *testing.B) {
	disk := rawDisk(256 << 20)
	for i := range disk {
		disk[i] &= 0x0f // So that there is something to unpack.
	}
	file := streamed(disk)
	b.SetBytes(int64(len(disk)))
	for b.Loop() {
		if _, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: b.TempDir(), Size: int64(len(disk)), Converter: noConverter}); err != nil {
			b.Fatal(err)
		}
	}
}
