// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"compress/zlib"
	"errors"
	"slices"
	"strings"
	"testing"
)

func openGrains(content []byte) (*GrainStream, error) {
	return OpenGrainStream(bytes.NewReader(content), int64(len(content)))
}

// grainsOf are the places of all grains, in the order of the file, and where the last
// one is in the file.
func grainsOf(t *testing.T, s *GrainStream, content []byte) (places []int64, last int64) {
	t.Helper()
	for at := s.Start; at < int64(len(content)); {
		m, err := s.Mark(at, content[at:at+MarkSize])
		switch {
		case err != nil:
			t.Fatalf("mark at %d: %v", at, err)
		case m.End:
			return places, last
		case m.Length > 0:
			places, last = append(places, m.Offset), at
		}
		at += m.Size
	}
	return places, last
}

func TestGrainStream(t *testing.T) {
	plain := golden(t, "streamOptimized.vmdk")
	for name, content := range map[string][]byte{"of QEMU": plain, "with a footer": addFooter(golden(t, "streamOptimized.vmdk"))} {
		t.Run(name, func(t *testing.T) {
			if name != "of QEMU" {
				// Such a file has no zeros in front of its footer.
				end := 69120 + 512
				content = slices.Concat(content[:end], content[len(content)-3*512:])
			}
			s, err := openGrains(content)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Info{Format: "vmdk", VirtualSize: 1049088}); s.Info != want || s.Start != 65536 || s.GrainSize != 65536 {
				t.Errorf("got %+v", s)
			}
			places, last := grainsOf(t, s, content)
			if want := []int64{0, 65536, 131072, 196608, 262144, 327680, 655360, 720896}; !slices.Equal(places[:8], want) {
				t.Errorf("grains for %v, want %v first", places, want)
			}
			if !s.Complete(last) {
				t.Errorf("the grain at %d is not the last one", last)
			}
			if name == "of QEMU" && s.Complete(last-512) {
				t.Error("the image is complete without its last grain")
			}
		})
	}
}

func TestNoGrainStream(t *testing.T) {
	stream := func(edit func([]byte)) []byte {
		content := golden(t, "streamOptimized.vmdk")
		edit(content)
		return content
	}
	for _, tc := range []struct {
		title   string
		content []byte
		refused string
	}{
		{"a format without grains", golden(t, "dynamic.vdi"), ""},
		{"not compressed", golden(t, "monolithicSparse.vmdk"), ""},
		{"no marks", stream(le32(8, 1<<16|3)), ""},
		{"no beginning", stream(le64(64, 0)), ""},
		{"a beginning behind the end", stream(le64(64, 1<<40)), ""},
		{"another version", stream(le32(4, 9)), "version 9"},
		{"a table behind the end", stream(at(26*512, le32(0, 1<<20))), "truncated"},
		{"truncated", golden(t, "streamOptimized.vmdk")[:300], "truncated"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			_, err := openGrains(tc.content)
			var refusal *Error
			switch {
			case tc.refused == "" && !errors.Is(err, ErrNoGrainStream):
				t.Errorf("got %v", err)
			case tc.refused != "" && (!errors.As(err, &refusal) || !strings.Contains(refusal.Message, tc.refused)):
				t.Errorf("got %v, want %q", err, tc.refused)
			}
		})
	}
	// The tables of one that is left to others are not even looked at.
	apart := golden(t, "monolithicSparse.vmdk")
	at(26*512, le32(0, 1<<20))(apart)
	if _, err := openGrains(apart); !errors.Is(err, ErrNoGrainStream) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenGrainStream(bytes.NewReader(nil), UnknownSize); err == nil {
		t.Error("opened a file of unknown length")
	}
}

func TestGrainMarks(t *testing.T) {
	const size, at = 100 << 20, 1 << 20
	unmarked := &GrainStream{Info: Info{VirtualSize: 10<<20 + 512}, GrainSize: 64 << 10, size: size}
	footed := *unmarked
	footed.footer = true
	mark := func(value uint64, packed, kind uint32) []byte {
		b := make([]byte, MarkSize)
		le64(0, value)(b)
		le32(8, packed)(b)
		if packed == 0 {
			le32(12, kind)(b)
		}
		return b
	}
	for _, tc := range []struct {
		title  string
		stream *GrainStream
		at     int64
		sector []byte
		want   GrainMark
	}{
		{"grain", unmarked, at, mark(128, 500, 0), GrainMark{Offset: 64 << 10, Length: 64 << 10, Packed: 500, Size: 512}},
		{"grain of two sectors", unmarked, at, mark(128, 501, 0), GrainMark{Offset: 64 << 10, Length: 64 << 10, Packed: 501, Size: 1024}},
		{"last grain of the disk", unmarked, at, mark(10<<11, 20, 0), GrainMark{Offset: 10 << 20, Length: 512, Packed: 20, Size: 512}},
		{"at the end of the file", unmarked, size - 512, mark(0, 500, 0), GrainMark{Length: 64 << 10, Packed: 500, Size: 512}},
		{"behind the end of the file", unmarked, size - 512, mark(0, 501, 0), GrainMark{}},
		{"behind the disk", unmarked, at, mark(10<<11+1, 20, 0), GrainMark{}},
		{"beyond arithmetic", unmarked, at, mark(1<<63, 20, 0), GrainMark{}},
		{"between grains", unmarked, at, mark(127, 20, 0), GrainMark{}},
		{"too long to be compressed", unmarked, at, mark(0, 96<<10+1, 0), GrainMark{}},
		{"of all ones", unmarked, at, bytes.Repeat([]byte{0xff}, MarkSize), GrainMark{}},
		{"table", unmarked, at, mark(4, 0, 1), GrainMark{Size: 2560}},
		{"directory", unmarked, at, mark(1, 0, 2), GrainMark{Size: 1024}},
		{"footer", unmarked, at, mark(1, 0, 3), GrainMark{Size: 1024}},
		{"of something unknown", unmarked, at, mark(1, 0, 4), GrainMark{}},
		{"table behind the end of the file", unmarked, size - 512, mark(1, 0, 1), GrainMark{}},
		{"table beyond arithmetic", unmarked, at, mark(1<<64-1, 0, 1), GrainMark{}},
		{"end", unmarked, at, mark(0, 0, 0), GrainMark{Size: 512, End: true}},
		{"end with a length", unmarked, at, mark(1, 0, 0), GrainMark{}},
		{"end before the footer", &footed, at, mark(0, 0, 0), GrainMark{}},
		{"end behind the footer", &footed, size - 512, mark(0, 0, 0), GrainMark{Size: 512, End: true}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got, err := tc.stream.Mark(tc.at, tc.sector)
			if got != tc.want || (tc.want == GrainMark{}) != errors.Is(err, ErrNoGrainStream) {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

// packGrain makes a grain with its mark, whose place is left empty.
func packGrain(content []byte) ([]byte, GrainMark) {
	var packed bytes.Buffer
	packed.Write(make([]byte, 12))
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(content)
	_ = w.Close()
	return packed.Bytes(), GrainMark{Packed: int64(packed.Len() - 12)}
}

func TestUnpackGrain(t *testing.T) {
	s := &GrainStream{GrainSize: 1 << 10}
	grain := bytes.Repeat([]byte("0123456789abcdef"), 64)
	packed, mark := packGrain(grain)
	spoilt := slices.Clone(packed)
	spoilt[len(spoilt)-1] ^= 1 // The checksum.
	long, longMark := packGrain(append(slices.Clone(grain), 0))
	for _, tc := range []struct {
		title   string
		length  int
		src     []byte
		mark    GrainMark
		message string
	}{
		{"whole", 1 << 10, packed, mark, ""},
		{"whole, again", 1 << 10, packed, mark, ""},
		{"beginning", 512, packed, mark, ""},
		{"too short", 1<<10 + 1, packed, mark, "1024 bytes instead of 1025"},
		{"too long", 1 << 10, long, longMark, "more than 1024 bytes"},
		{"wrong checksum", 1 << 10, spoilt, mark, "checksum"},
		{"cut", 1 << 10, packed, GrainMark{Packed: mark.Packed - 5}, "the file is damaged"},
		{"not compressed", 1 << 10, grain, GrainMark{Packed: 100}, "header"},
		{"whole, after all that", 1 << 10, packed, mark, ""},
	} {
		t.Run(tc.title, func(t *testing.T) {
			dst := make([]byte, tc.length)
			err := s.Unpack(dst, tc.src, tc.mark)
			switch {
			case tc.message == "" && (err != nil || !bytes.Equal(dst, grain[:tc.length])):
				t.Errorf("got %v, %q", err, dst)
			case tc.message != "" && (err == nil || !strings.Contains(err.Error(), tc.message)):
				t.Errorf("got %v, want %q", err, tc.message)
			}
		})
	}
}

// FuzzGrainMark looks whether every mark that is read stays in the file and on the
// disk, and whether a grain can always be unpacked or refused.
func FuzzGrainMark(f *testing.F) {
	content := golden(f, "streamOptimized.vmdk")
	f.Add(content[65536:66048], int64(0), false)
	f.Add(content[69120:69632], int64(512), true)
	f.Add(make([]byte, 512), int64(1<<20-512), true)
	f.Add(append([]byte{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 499)...), int64(4096), false)
	f.Fuzz(func(t *testing.T, sector []byte, at int64, footer bool) {
		s := &GrainStream{Info: Info{VirtualSize: 1049088}, GrainSize: 65536, size: 1 << 20, footer: footer}
		if len(sector) != MarkSize || at < 0 || at%MarkSize != 0 || at > s.size-MarkSize {
			return
		}
		m, err := s.Mark(at, sector)
		if err != nil {
			return
		}
		if m.Size < MarkSize || m.Size%MarkSize != 0 || at+m.Size > s.size ||
			m.Offset < 0 || m.Length < 0 || m.Offset+m.Length > s.Info.VirtualSize || m.Packed > m.Size {
			t.Fatalf("%+v at %d", m, at)
		}
		if m.Length > 0 && m.Size == MarkSize {
			_ = s.Unpack(make([]byte, m.Length), sector, m)
		}
	})
}
