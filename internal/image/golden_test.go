// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// unpackedImages are those that were read already.
var unpackedImages sync.Map

// golden reads an image of testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	if content, found := unpackedImages.Load(name); found {
		return slices.Clone(content.([]byte))
	}
	packed, err := os.Open(filepath.Join("testdata", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	unpackedImages.Store(name, content)
	return slices.Clone(content)
}

// inspectAt inspects a file of which everything can be read.
func inspectAt(content []byte) (Info, error) {
	return InspectAt(bytes.NewReader(content), int64(len(content)))
}

func head(content []byte) []byte { return content[:min(len(content), HeadSize)] }
func tail(content []byte) []byte { return content[max(0, len(content)-TailSize):] }

// goldenImages are all that are accepted.
var goldenImages = []struct {
	name string
	want Info
}{
	{"monolithicSparse.vmdk", Info{Format: "vmdk", VirtualSize: 1049088}},
	{"monolithicSparse-zeroed.vmdk", Info{Format: "vmdk", VirtualSize: 1049088}},
	{"streamOptimized.vmdk", Info{Format: "vmdk", VirtualSize: 1049088}},
	{"dynamic.vdi", Info{Format: "vdi", VirtualSize: 1049088}},
	{"static.vdi", Info{Format: "vdi", VirtualSize: 1049088}},
	{"dynamic.vpc", Info{Format: "vpc", VirtualSize: 1079296}},
	{"fixed.vpc", Info{Format: "vpc", VirtualSize: 1079296}},
	{"dynamic-exact.vpc", Info{Format: "vpc", VirtualSize: 1049088}},
	{"fixed-exact.vpc", Info{Format: "vpc", VirtualSize: 1049088}},
	{"dynamic.vhdx", Info{Format: "vhdx", VirtualSize: 1049088}},
	{"fixed.vhdx", Info{Format: "vhdx", VirtualSize: 1049088}},
}

func TestInspectAcceptsWhatQEMUWrites(t *testing.T) {
	for _, tc := range goldenImages {
		t.Run(tc.name, func(t *testing.T) {
			content := golden(t, tc.name)
			if info, err := inspectAt(content); err != nil || info != tc.want {
				t.Errorf("whole: %+v, %v", info, err)
			}
			if info, err := InspectTail(head(content), tail(content), int64(len(content))); err != nil || info != tc.want {
				t.Errorf("beginning and end: %+v, %v", info, err)
			}
			if strings.HasPrefix(tc.name, "fixed") && tc.want.Format == FormatVPC {
				return
			}
			for _, size := range []int64{int64(len(content)), UnknownSize} {
				if info, err := Inspect(head(content), size); err != nil || info != tc.want {
					t.Errorf("beginning of %d bytes: %+v, %v", size, info, err)
				}
			}
		})
	}
}

func TestInspectRefusesWhatQEMUKeepsInSeveralFiles(t *testing.T) {
	for _, tc := range []struct{ name, message string }{
		{"monolithicFlat.vmdk", "VMDK descriptor"},
		{"twoGbMaxExtentSparse-s001.vmdk", "no descriptor"},
		{"child.vmdk", "parent"},
	} {
		info, err := inspectAt(golden(t, tc.name))
		wantError(t, info, err, Refused, tc.message)
	}
}

// A part of an image is told from the whole wherever the format allows it.
func TestInspectAtNoticesTruncation(t *testing.T) {
	for _, tc := range goldenImages {
		content := golden(t, tc.name)
		for _, length := range []int{1, 100, 512, 1024, len(content) / 4, len(content) / 2} {
			info, err := inspectAt(content[:length])
			if err == nil {
				t.Errorf("%s cut to %d of %d bytes: %+v", tc.name, length, len(content), info)
			}
		}
	}
}

func TestNeedsConversion(t *testing.T) {
	for format, want := range map[Format]bool{
		"qcow2": false, "raw": false, "iso": false,
		"vmdk": true, "vdi": true, "vpc": true, "vhdx": true,
	} {
		if format.NeedsConversion() != want {
			t.Errorf("%s: %t", format, !want)
		}
	}
}

// A fixed VHD is a raw disk with a footer, which the beginning does not show.
func TestInspectTellsAFixedVHDByItsEnd(t *testing.T) {
	content := golden(t, "fixed-exact.vpc")
	copy(content[510:], "\x55\xaa")
	size := int64(len(content))
	if info, err := Inspect(content, UnknownSize); err != nil || info.Format != FormatRaw {
		t.Errorf("of unknown length: %+v, %v", info, err)
	}
	if info, err := Inspect(content[:65536], size); err != nil || info != (Info{Format: FormatRaw, VirtualSize: size}) {
		t.Errorf("beginning: %+v, %v", info, err)
	}
	want := Info{Format: FormatVPC, VirtualSize: size - 512}
	if info, err := InspectTail(content[:65536], tail(content), size); err != nil || info != want {
		t.Errorf("beginning and end: %+v, %v", info, err)
	}
	if info, err := InspectTail(content[:65536], content[size-512:], size); err != nil || info != want {
		t.Errorf("beginning and footer: %+v, %v", info, err)
	}
	if info, err := InspectTail(content, nil, size); err != nil || info != want {
		t.Errorf("small file without an end of its own: %+v, %v", info, err)
	}
	_, err := InspectTail(content, content, 512)
	wantError(t, Info{}, err, Corrupt, "truncated")
}

// Less of the beginning than there could be is no reason to guess.
func TestInspectRefusesWhatItSeesTooLittleOf(t *testing.T) {
	for _, tc := range goldenImages {
		if tc.name == "fixed.vpc" || tc.name == "fixed-exact.vpc" {
			continue
		}
		info, err := Inspect(golden(t, tc.name)[:80], 1<<30)
		wantError(t, info, err, Refused, "first 80 bytes")
	}
}

func TestInspectAtKeepsTheReadersError(t *testing.T) {
	cause := errors.New("connection lost")
	content := golden(t, "dynamic.vhdx")
	for _, offset := range []int64{0, 5 << 20} {
		// The block table is moved to where only a further read can see it.
		broken := append([]byte(nil), content...)
		moveVHDXRegion(broken, vhdxRegionBAT, 5<<20)
		_, err := InspectAt(failAt{bytes.NewReader(broken), offset, cause}, int64(len(broken)))
		var typed *Error
		if !errors.Is(err, cause) || errors.As(err, &typed) {
			t.Errorf("reading byte %d: %v", offset, err)
		}
	}
	_, err := InspectAt(bytes.NewReader(content[:1000]), int64(len(content)))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source shorter than promised: %v", err)
	}
	_, err = InspectAt(bytes.NewReader(content), UnknownSize)
	wantError(t, Info{}, err, Corrupt, "length")
}

type failAt struct {
	io.ReaderAt
	offset int64
	err    error
}

func (r failAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset == r.offset {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, offset)
}
