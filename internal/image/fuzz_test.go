// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"slices"
	"testing"
)

// checkVerdict holds for every input: there is either an error of a known kind
// and no info, or a complete info within the bounds.
func checkVerdict(t *testing.T, info Info, err error, sized bool) {
	t.Helper()
	if err != nil {
		var typed *Error
		if !errors.As(err, &typed) || typed.Kind < NotSupported || typed.Kind > Corrupt || typed.Message == "" {
			t.Fatalf("untyped error %#v", err)
		}
		if info != (Info{}) {
			t.Fatalf("refused, but described as %+v", info)
		}
		return
	}
	switch {
	case !slices.Contains([]Format{FormatQCOW2, FormatRaw, FormatISO, FormatVMDK, FormatVDI, FormatVPC, FormatVHDX}, info.Format):
		t.Fatalf("unknown format %q", info.Format)
	case info.CDROM != (info.Format == FormatISO):
		t.Fatalf("contradiction: %+v", info)
	case info.VirtualSize < 0 || info.VirtualSize > MaxVirtualSize || info.VirtualSize%512 != 0:
		t.Fatalf("virtual size %d", info.VirtualSize)
	case info.VirtualSize == 0 && (sized || info.Format != FormatRaw && info.Format != FormatISO):
		t.Fatalf("no virtual size: %+v", info)
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add([]byte("<html>"), int64(6))
	f.Add(qcow2File()[:512], int64(3*65536))
	f.Add(qcow2FileV2()[:512], int64(-1))
	f.Add(file(4096, map[int]string{510: "\x55\xaa"}), int64(4096))
	f.Add(file(32800, map[int]string{32768: "\x01CD001\x01"}), int64(1<<62))
	f.Add(make([]byte, 512), int64(512))
	for _, s := range foreignDisks {
		f.Add(file(512, map[int]string{s.offset: s.magic}), int64(512))
	}
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		info, err := Inspect(head, size)
		checkVerdict(t, info, err, size >= 0)
	})
}

// FuzzInspectQCOW2 starts behind the magic, where the interesting fields are,
// and gives the header a file around it.
func FuzzInspectQCOW2(f *testing.F) {
	f.Add(qcow2File()[4:128])
	f.Add(qcow2FileV2()[4:128])
	f.Add(changed(qcow2File(), extension(112, 0x44415441, 5))[4:128])
	f.Add(changed(qcow2File(), put32(20, 21), put32(36, 0xffffffff))[4:128])
	f.Fuzz(func(t *testing.T, fields []byte) {
		head := make([]byte, 1<<16)
		copy(head, qcow2Magic)
		copy(head[4:], fields)
		for _, size := range []int64{UnknownSize, int64(len(head)), 1 << 40} {
			info, err := Inspect(head, size)
			checkVerdict(t, info, err, size >= 0)
			if err == nil && info.Format != FormatQCOW2 {
				t.Fatalf("taken for %s", info.Format)
			}
			if err == nil && (head[8]|head[15]|head[19]|head[35]|head[63]) != 0 {
				t.Fatal("accepted with a backing file, encryption or snapshots")
			}
		}
	})
}

func FuzzInspectChecksum(f *testing.F) {
	f.Add("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f.Add("md5:d41d8cd98f00b204e9800998ecf8427e")
	f.Add("md5:")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		checksum, err := ParseChecksum(text)
		if err != nil {
			return
		}
		again, err := ParseChecksum(checksum.String())
		if err != nil || again.String() != checksum.String() {
			t.Fatalf("%q: %v, %v", text, again, err)
		}
	})
}
