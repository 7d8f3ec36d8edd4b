// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
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
	for _, tc := range goldenImages {
		content := golden(f, tc.name)
		f.Add(content[:min(len(content), 70_000)], int64(len(content)))
	}
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

// inspectAllWays inspects a file by its beginning, by both ends and as a whole,
// and holds the verdicts against each other: who sees more may only refuse more.
func inspectAllWays(t *testing.T, content []byte, format Format) (Info, error) {
	t.Helper()
	size := int64(len(content))
	unsized, unsizedErr := Inspect(content[:min(size, 4096)], UnknownSize)
	checkVerdict(t, unsized, unsizedErr, false)
	begun, begunErr := Inspect(content[:min(size, 4096)], size)
	checkVerdict(t, begun, begunErr, size >= 0)
	ended, endedErr := InspectTail(content[:min(size, 4096)], tail(content), size)
	checkVerdict(t, ended, endedErr, true)
	whole, wholeErr := inspectAt(content)
	checkVerdict(t, whole, wholeErr, true)
	var typed *Error
	if wholeErr == nil && errors.As(endedErr, &typed) && typed.Kind != Refused {
		t.Fatalf("%v by its ends, %+v as a whole", endedErr, whole)
	}
	if wholeErr == nil && (endedErr == nil && ended != whole || format != "" && whole.Format != format) {
		t.Fatalf("%+v by its ends, %+v as a whole", ended, whole)
	}
	return whole, wholeErr
}

// FuzzInspectVMDK changes the header, the descriptor and the beginning of the
// directory, with and without a footer.
func FuzzInspectVMDK(f *testing.F) {
	for _, name := range []string{"monolithicSparse.vmdk", "streamOptimized.vmdk"} {
		content := golden(f, name)
		f.Add(content[4:512], descriptor, content[26*512:][:32], false)
		f.Add(content[4:512], string(content[512:1024]), content[26*512:][:32], true)
	}
	f.Add(golden(f, "child.vmdk")[4:512], descriptor+"parentFileNameHint=\"x\"\n", []byte{}, false)
	f.Add(golden(f, "twoGbMaxExtentSparse-s001.vmdk")[4:512], "", []byte{}, false)
	f.Fuzz(func(t *testing.T, header []byte, descriptor string, directory []byte, footer bool) {
		content := make([]byte, 64<<10)
		copy(content, vmdkMagic)
		copy(content[4:512], header)
		describe(descriptor)(content)
		copy(content[26*512:], directory)
		if footer {
			content = addFooter(content)
		}
		if _, err := inspectAllWays(t, content, FormatVMDK); err == nil {
			checkAcceptedVMDK(t, content)
		}
	})
}

// checkAcceptedVMDK looks for what QEMU would follow.
func checkAcceptedVMDK(t *testing.T, content []byte) {
	t.Helper()
	switch {
	case bytes.Contains(content[512:21*512], []byte("parentFileNameHint")):
		t.Fatal("accepted with a parent's name")
	case isZero(content[12:20]):
		t.Fatal("accepted without a disk of its own")
	}
}

func FuzzInspectVDI(f *testing.F) {
	for _, name := range []string{"dynamic.vdi", "static.vdi"} {
		content := golden(f, name)
		f.Add(content[0x44:0x200], content[512:520])
	}
	f.Fuzz(func(t *testing.T, header, blocks []byte) {
		content := make([]byte, 1<<20+4096)
		copy(content[0x40:], vdiMagic)
		copy(content[0x44:0x200], header)
		copy(content[512:4096], blocks)
		if _, err := inspectAllWays(t, content, FormatVDI); err == nil && content[0x4c] != 1 && content[0x4c] != 2 {
			t.Fatalf("accepted of type %d", content[0x4c])
		}
	})
}

// FuzzInspectVHD changes the fields of a dynamic VHD and corrects the checksums,
// which would keep it from getting any further.
func FuzzInspectVHD(f *testing.F) {
	for _, name := range []string{"dynamic.vpc", "dynamic-exact.vpc"} {
		content := golden(f, name)
		f.Add(content[8:512], content[520:1536], content[1536:1544], true)
		f.Add(content[8:512], content[520:1536], content[1536:1544], false)
	}
	f.Fuzz(func(t *testing.T, footer, header, table []byte, sealed bool) {
		content := make([]byte, 64<<10)
		copy(content, vhdCookie)
		copy(content[8:512], footer)
		copy(content[512:], vhdDynamicCookie)
		copy(content[520:1536], header)
		copy(content[1536:], table)
		if sealed {
			sealVHD(content)
		}
		if _, err := inspectAllWays(t, content, FormatVPC); err == nil && content[63] != vhdDynamic {
			t.Fatalf("accepted of type %d", content[63])
		}
	})
}

func FuzzInspectVHDFooter(f *testing.F) {
	for _, name := range []string{"fixed.vpc", "fixed-exact.vpc"} {
		content := golden(f, name)
		f.Add(content[len(content)-504:], true)
		f.Add(content[len(content)-504:], false)
	}
	f.Fuzz(func(t *testing.T, footer []byte, sealed bool) {
		content := make([]byte, 64<<10)
		copy(content[510:], "\x55\xaa")
		end := content[len(content)-512:]
		copy(end, vhdCookie)
		copy(end[8:], footer)
		if sealed {
			sealVHD(content)
		}
		info, err := inspectAllWays(t, content, FormatVPC)
		if err == nil && (end[63] != vhdFixed || info.VirtualSize > int64(len(content))-512) {
			t.Fatalf("accepted of type %d as %+v", end[63], info)
		}
	})
}

// FuzzInspectVHDX changes the fields of all structures and corrects the
// checksums. Only as much of the file is there as the structures need.
func FuzzInspectVHDX(f *testing.F) {
	for _, name := range []string{"dynamic.vhdx", "fixed.vhdx"} {
		content := golden(f, name)
		metadata := content[3<<20:]
		f.Add(content[64<<10+8:][:64], content[192<<10+8:][:80], metadata[8:32+5*32], metadata[64<<10:][:64], content[2<<20:][:16], true)
		f.Add(content[64<<10+8:][:64], content[192<<10+8:][:80], metadata[8:32+5*32], metadata[64<<10:][:64], content[2<<20:][:16], false)
	}
	content := make([]byte, 5<<20)
	f.Fuzz(func(t *testing.T, header, regions, table, items, blocks []byte, sealed bool) {
		put := func(at int, magic string, fields []byte) {
			clear(content[at:][:4096])
			copy(content[at+8:][:4088], fields)
			copy(content[at:], magic)
		}
		put(0, vhdxMagic, nil)
		put(64<<10, vhdxHeaderMagic, header)
		put(128<<10, "", nil)
		put(192<<10, vhdxRegionMagic, regions)
		put(256<<10, vhdxRegionMagic, regions)
		put(2<<20, "", nil)
		copy(content[2<<20:][:4096], blocks)
		put(3<<20, vhdxMetadataMagic, table)
		put(3<<20+64<<10, "", nil)
		copy(content[3<<20+64<<10:][:4096], items)
		if sealed {
			sealVHDX(content)
		}
		if _, err := inspectAllWays(t, content, FormatVHDX); err == nil && !isZero(content[64<<10+48:][:16]) {
			t.Fatal("accepted with a log")
		}
	})
}

func FuzzInspectChecksum(f *testing.F) {
	f.Add("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	f.Add("md5:d41d8cd98f00b204e9800998ecf8427e")
	f.Add("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")
	f.Add("sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e")
	f.Add(" SHA256:\x00")
	f.Add("md5:")
	f.Add(":")
	f.Fuzz(func(t *testing.T, text string) {
		checksum, err := ParseChecksum(text)
		if err != nil {
			return
		}
		if h := checksum.NewHash(); h.Size() != len(checksum.Sum) {
			t.Fatalf("%q: a sum of %d bytes", text, len(checksum.Sum))
		}
		again, err := ParseChecksum(checksum.String())
		if err != nil || again.String() != checksum.String() {
			t.Fatalf("%q: %v, %v", text, again, err)
		}
	})
}
