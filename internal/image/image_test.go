// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"strings"
	"testing"
)

// file makes the content of a file of the given size with pieces at offsets.
func file(size int, pieces map[int]string) []byte {
	b := make([]byte, size)
	for at, piece := range pieces {
		copy(b[at:], piece)
	}
	return b
}

func TestInspectAcceptsPlainImages(t *testing.T) {
	for _, tc := range []struct {
		title string
		file  []byte
		want  Info
	}{
		{"MBR", file(4096, map[int]string{0: "\xeb\x63\x90", 510: "\x55\xaa"}), Info{Format: "raw", VirtualSize: 4096}},
		{"GPT", file(4096, map[int]string{512: "EFI PART"}), Info{Format: "raw", VirtualSize: 4096}},
		{"GPT on large sectors", file(8192, map[int]string{4096: "EFI PART"}), Info{Format: "raw", VirtualSize: 8192}},
		{"ext4", file(8192, map[int]string{1080: "\x53\xef"}), Info{Format: "raw", VirtualSize: 8192}},
		{"XFS", file(8192, map[int]string{0: "XFSB"}), Info{Format: "raw", VirtualSize: 8192}},
		{"btrfs", file(1<<17, map[int]string{0x10040: "_BHRfS_M"}), Info{Format: "raw", VirtualSize: 1 << 17}},
		{"LVM", file(4096, map[int]string{512: "LABELONE"}), Info{Format: "raw", VirtualSize: 4096}},
		{"swap", file(8192, map[int]string{4086: "SWAPSPACE2"}), Info{Format: "raw", VirtualSize: 8192}},
		{"squashfs", file(4096, map[int]string{0: "hsqs"}), Info{Format: "raw", VirtualSize: 4096}},
		{"blank", make([]byte, 1024), Info{Format: "raw", VirtualSize: 1024}},
		{"odd length is rounded up", file(4097, map[int]string{510: "\x55\xaa"}), Info{Format: "raw", VirtualSize: 4608}},
		{"ISO 9660", file(65536, map[int]string{32768: "\x01CD001\x01"}), Info{Format: "iso", VirtualSize: 65536, CDROM: true}},
		{"ISO 9660 that also boots as a disk", file(65536, map[int]string{32768: "\x01CD001\x01", 510: "\x55\xaa", 512: "EFI PART"}), Info{Format: "iso", VirtualSize: 65536, CDROM: true}},
		{"UDF", file(65536, map[int]string{32768: "\x00BEA01\x01"}), Info{Format: "iso", VirtualSize: 65536, CDROM: true}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got, err := Inspect(tc.file, int64(len(tc.file)))
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			unsized, err := Inspect(tc.file, UnknownSize)
			if tc.want.VirtualSize = 0; err != nil || unsized != tc.want {
				t.Errorf("without a size: got %+v, %v, want %+v", unsized, err, tc.want)
			}
		})
	}
}

func TestInspectRefusesOtherFiles(t *testing.T) {
	mbr := map[int]string{510: "\x55\xaa"}
	with := func(at int, piece string) []byte {
		b := file(65536, mbr)
		copy(b[at:], piece)
		return b
	}
	for _, tc := range []struct {
		title   string
		file    []byte
		kind    Kind
		message string
	}{
		{"empty", nil, NotSupported, "empty"},
		{"one byte", []byte{0}, NotSupported, "not a disk image"},
		{"zeros, but no whole sector", make([]byte, 1000), NotSupported, "not a disk image"},
		{"web page", []byte("<!DOCTYPE html><html><body>404</body></html>"), NotSupported, "text/html"},
		{"checksum file", []byte("0123456789abcdef  debian.qcow2\n"), NotSupported, "text/plain"},
		{"noise", []byte(strings.Repeat("\x91\x02\xfe", 4096)), NotSupported, "not a disk image"},
		{"program", file(8192, map[int]string{0: "\x7fELF"}), NotSupported, "not a disk image"},
		{"PDF", []byte("%PDF-1.7"), NotSupported, "application/pdf"},
		{"magic of qcow2 elsewhere", file(4096, map[int]string{1: "QFI\xfb"}), NotSupported, "not a disk image"},
		{"VMDK", with(0, "KDMV"), NotSupported, "VMDK"},
		{"VMDK of ESX", with(0, "COWD"), NotSupported, "VMDK"},
		{"VMDK descriptor naming a host file", []byte("# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n"), Refused, "VMDK descriptor"},
		{"VDI", with(0x40, "\x7f\x10\xda\xbe"), NotSupported, "VDI"},
		{"VHD", with(0, "conectix"), Corrupt, "VHD"},
		{"VHDX", with(0, "vhdxfile"), Corrupt, "VHDX"},
		{"QED", with(0, "QED\x00"), NotSupported, "QED"},
		{"Parallels", with(0, "WithoutFreeSpace"), NotSupported, "Parallels"},
		{"Parallels, extended", with(0, "WithouFreSpacExt"), NotSupported, "Parallels"},
		{"Bochs", with(0, "Bochs Virtual HD Image"), NotSupported, "Bochs"},
		{"cloop", with(0, "#!/bin/sh\n#V2.0 Format\n"), NotSupported, "cloop"},
		{"COW", with(0, "OOOM"), NotSupported, "COW"},
		{"LUKS", with(0, "LUKS\xba\xbe"), Refused, "LUKS"},
		{"tar", with(257, "ustar"), NotSupported, "tar archive"},
		{"zip", with(0, "PK\x03\x04"), NotSupported, "zip"},
		{"7z", with(0, "7z\xbc\xaf\x27\x1c"), NotSupported, "7z"},
		{"RAR", with(0, "Rar!\x1a\x07"), NotSupported, "RAR"},
		{"gzip", with(0, "\x1f\x8b\x08"), NotSupported, "gzip"},
		{"xz", with(0, "\xfd7zXZ\x00"), NotSupported, "xz"},
		{"zstd", with(0, "\x28\xb5\x2f\xfd"), NotSupported, "zstd"},
		{"bzip2", with(0, "BZh91AY"), NotSupported, "bzip2"},
		{"lz4", with(0, "\x04\x22\x4d\x18"), NotSupported, "lz4"},
		{"VMDK that is an ISO, too", file(65536, map[int]string{0: "KDMV", 32768: "\x01CD001\x01"}), NotSupported, "VMDK"},
		{"broken qcow2 that is an ISO, too", file(65536, map[int]string{0: "QFI\xfb\x00\x00\x00\x02", 32768: "\x01CD001\x01"}), Corrupt, "qcow2"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := Inspect(tc.file, int64(len(tc.file)))
			wantError(t, info, err, tc.kind, tc.message)
			if len(tc.file) == 0 {
				_, err = Inspect(tc.file, UnknownSize)
				wantError(t, Info{}, err, tc.kind, tc.message)
			}
		})
	}
}

func TestInspectBoundsTheSize(t *testing.T) {
	head := file(4096, map[int]string{510: "\x55\xaa"})
	if info, err := Inspect(head, 64<<40); err != nil || info.VirtualSize != 64<<40 {
		t.Errorf("largest: %+v, %v", info, err)
	}
	for _, size := range []int64{64<<40 + 1, 1<<63 - 1} {
		info, err := Inspect(head, size)
		wantError(t, info, err, Refused, "at most")
	}
}

// A stream's reader may hand over more than belongs to the image.
func TestInspectLooksAtNothingBehindTheEnd(t *testing.T) {
	head := file(65536, map[int]string{32768: "\x01CD001\x01"})
	info, err := Inspect(head, 512)
	if err != nil || info.Format != FormatRaw {
		t.Errorf("got %+v, %v: the mark is outside the file", info, err)
	}
}

func TestKindsOfErrorsArePlainText(t *testing.T) {
	_, err := Inspect([]byte("<html>"), 6)
	if err == nil || strings.ContainsAny(err.Error(), "\n\x00") {
		t.Errorf("message %q", err)
	}
}
