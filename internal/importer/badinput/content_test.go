// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package badinput

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Remedies.
const (
	convert = ": convert it with `qemu-img convert -O qcow2 SOURCE TARGET`"
	flatten = ": make it self-contained with `qemu-img convert -O qcow2 SOURCE TARGET`"
	repack  = "; check the file, or publish it without compression"
	unpack  = ", not a disk image: give the URL of the unpacked qcow2, raw or ISO image"
)

// looksLike is the message about a file that is nothing known.
func looksLike(what string) string {
	return "the file is not a disk image: it is neither qcow2 nor ISO and shows no partition table or file system (it looks like " + what +
		"); check the URL, or convert a raw disk with `qemu-img convert -f raw -O qcow2 SOURCE TARGET`"
}

// rawDisk begins with a boot sector and is not compressible to nothing.
func rawDisk() []byte {
	disk := make([]byte, 1<<20)
	for i := range disk {
		disk[i] = byte(i * i >> 8)
	}
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

func gzipped(content []byte) []byte {
	var all bytes.Buffer
	writer := gzip.NewWriter(&all)
	_, _ = writer.Write(content)
	_ = writer.Close()
	return all.Bytes()
}

func zstded(content []byte) []byte {
	writer, _ := zstd.NewWriter(nil)
	return writer.EncodeAll(content, nil)
}

func tarred(content []byte) []byte {
	var all bytes.Buffer
	writer := tar.NewWriter(&all)
	_ = writer.WriteHeader(&tar.Header{Name: "disk.vmdk", Mode: 0o600, Size: int64(len(content))})
	_, _ = writer.Write(content)
	_ = writer.Close()
	return all.Bytes()
}

// at overwrites a part of a file.
func at(content []byte, offset int, with string) []byte {
	changed := bytes.Clone(content)
	copy(changed[offset:], with)
	return changed
}

func be32(value uint32) string { return string(binary.BigEndian.AppendUint32(nil, value)) }
func be64(value uint64) string { return string(binary.BigEndian.AppendUint64(nil, value)) }
func le32(value uint32) string { return string(binary.LittleEndian.AppendUint32(nil, value)) }
func le64(value uint64) string { return string(binary.LittleEndian.AppendUint64(nil, value)) }

// qcow2Disk is a sound image of 1 GiB in which nothing is allocated, with the
// given parts of it overwritten.
func qcow2Disk(changes ...func([]byte)) []byte {
	image := make([]byte, 4<<16)
	copy(image, "QFI\xfb"+be32(3))
	for offset, value := range map[int]string{
		20: be32(16), 24: be64(1 << 30), 36: be32(2), 40: be64(3 << 16), 48: be64(1 << 16), 56: be32(1), 96: be32(4), 100: be32(104),
		1 << 16: be64(2 << 16), 2 << 16: "\x00\x01\x00\x01\x00\x01\x00\x01",
	} {
		copy(image[offset:], value)
	}
	for _, change := range changes {
		change(image)
	}
	return image
}

func set(offset int, value string) func([]byte) {
	return func(image []byte) { copy(image[offset:], value) }
}

// backing names a backing file.
func backing(name string) []byte {
	return qcow2Disk(set(8, be64(512)), set(16, be32(uint32(len(name)))), set(512, name))
}

// golden is an image that a program of its format's maker has made.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("../../image/testdata", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	reader, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// badFiles are no disks at all, or cannot be unpacked.
func badFiles() []bad {
	const greedy = "\x02\x00!\x01\x28\x00\x00\x00"
	page := []byte("<!DOCTYPE html><html><body>Sign in to download</body></html>")
	return []bad{
		{title: "0 bytes", content: nil,
			reason: report.FormatNotSupported, message: "the file is empty"},
		{title: "1 byte", content: []byte("x"),
			reason: report.FormatNotSupported, message: looksLike("text/plain; charset=utf-8")},
		{title: "a web page", content: page,
			reason: report.FormatNotSupported, message: looksLike("text/html; charset=utf-8")},
		{title: "a text that names a file", content: []byte("json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}\n"),
			reason: report.FormatNotSupported, message: looksLike("text/plain; charset=utf-8")},
		{title: "a text that names a server", content: []byte("nbd:unix:/run/libvirt/libvirt-sock\n"),
			reason: report.FormatNotSupported, message: looksLike("text/plain; charset=utf-8")},
		{title: "a script", content: []byte("#!/bin/sh\nrm -rf /\n"),
			reason: report.FormatNotSupported, message: looksLike("text/plain; charset=utf-8")},
		{title: "a program", content: append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: looksLike("application/octet-stream")},
		{title: "a PDF", content: append([]byte("%PDF-1.7\n"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: looksLike("application/pdf")},
		{title: "zeros that are no whole sectors", content: make([]byte, 1000),
			reason: report.FormatNotSupported, message: looksLike("application/octet-stream")},
		{title: "random bytes", content: bytes.Repeat([]byte("\x93\x11\xfe\x04\x55\x7a\xc3"), 1000),
			reason: report.FormatNotSupported, message: looksLike("application/octet-stream")},
		{title: "an OVA", content: tarred([]byte("KDMV")),
			reason: report.FormatNotSupported, message: "the file is a tar archive (an OVA is one, too)" + unpack},
		{title: "a zip archive", content: append([]byte("PK\x03\x04"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the file is a zip archive" + unpack},
		{title: "a 7z archive", content: append([]byte("7z\xbc\xaf\x27\x1c"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the file is a 7z archive" + unpack},
		{title: "a RAR archive", content: append([]byte("Rar!\x1a\x07\x00"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the file is a RAR archive" + unpack},
		{title: "bzip2", content: append([]byte("BZh91AY&SY"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the file is a bzip2-compressed file" + unpack},
		{title: "lz4", content: append([]byte("\x04\x22\x4d\x18"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the file is a lz4-compressed file" + unpack},
		{title: "a LUKS volume", content: append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 1<<20)...),
			reason: report.FormatRefused, message: "the image is encrypted by LUKS as a whole: decrypt it first, or encrypt a partition instead"},
		{title: "a gzipped web page", content: gzipped(page),
			reason: report.FormatNotSupported, message: looksLike("text/html; charset=utf-8")},
		{title: "a disk that is gzipped twice", content: gzipped(gzipped(rawDisk())),
			reason: report.FormatNotSupported, message: "the file is a gzip-compressed file" + unpack},
		{title: "a gzipped archive", content: gzipped(tarred(rawDisk())),
			reason: report.FormatNotSupported, message: "the file is a tar archive (an OVA is one, too)" + unpack},
		{title: "a gzip bomb in a zstd bomb", content: zstded(gzipped(make([]byte, 64<<20))),
			reason: report.FormatNotSupported, message: "the file is a gzip-compressed file" + unpack},
		{title: "an empty gzip file", content: gzipped(nil),
			reason: report.FormatNotSupported, message: "the file is empty"},
		{title: "truncated gzip", content: gzipped(rawDisk())[:1000],
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (gzip): unexpected EOF" + repack},
		{title: "truncated zstd", content: zstded(rawDisk())[:1000],
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (zstd): unexpected EOF" + repack},
		{title: "truncated xz", content: []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (xz): xz: data is truncated or corrupt" + repack},
		{title: "gzip by its first bytes only", content: []byte("\x1f\x8bnothing of the kind"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (gzip): gzip: invalid header" + repack},
		{title: "xz by its first bytes only", content: []byte("\xfd7zXZ\x00nothing of the kind"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (xz): xz: data is corrupt" + repack},
		{title: "zstd by its first bytes only", content: []byte("\x28\xb5\x2f\xfdnothing of the kind"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (zstd): reserved bit set on frame header" + repack},
		{title: "gzip with a wrong checksum", content: at(gzipped(rawDisk()), len(gzipped(rawDisk()))-8, "\x00\x00\x00\x00"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (gzip): gzip: invalid checksum" + repack},
		// Both ask for gigabytes of memory.
		{title: "zstd with a window of 1 GiB", content: []byte("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (zstd): window size exceeded" + repack},
		{title: "xz with a dictionary of 4 GiB", content: []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46" + greedy + le32(crc32.ChecksumIEEE([]byte(greedy)))),
			reason: report.ImageCorrupt, message: "the image cannot be decompressed (xz): xz: LZMA2 dictionary size exceeds max" + repack},
	}
}

func badQCOW2() []bad {
	const crypt, size, l1Size, l1Offset, refcounts, refcountClusters, snapshots, incompatible = 32, 24, 36, 40, 48, 56, 60, 72
	return []bad{
		{title: "a backing file", content: backing("/etc/passwd"),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a backing file in json", content: backing(`json:{"driver":"nbd","server.path":"/run/secrets"}`),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a backing file on a server", content: backing("nbd://10.0.0.1/disk"),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a compressed backing file", content: gzipped(backing("/etc/passwd")),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a backing file's name without its place", content: qcow2Disk(set(16, be32(11))),
			reason: report.FormatRefused, message: "the qcow2 image has a backing file, so it is only a part of a disk" + flatten},
		{title: "a backing file's format", content: qcow2Disk(set(104, be32(0xe2792aca)+be32(3)+"raw")),
			reason: report.FormatRefused, message: "the qcow2 image names a backing file's format" + flatten},
		{title: "an external data file", content: qcow2Disk(set(incompatible, be64(4))),
			reason: report.FormatRefused, message: "the qcow2 image keeps its data in an external file" + flatten},
		{title: "an external data file's name", content: qcow2Disk(set(104, be32(0x44415441)+be32(6)+"/dev/0")),
			reason: report.FormatRefused, message: "the qcow2 image names an external data file" + flatten},
		{title: "AES", content: qcow2Disk(set(crypt, be32(1))),
			reason: report.FormatRefused, message: "the qcow2 image is encrypted: decrypt it with `qemu-img convert` first"},
		{title: "LUKS inside", content: qcow2Disk(set(crypt, be32(2))),
			reason: report.FormatRefused, message: "the qcow2 image is encrypted: decrypt it with `qemu-img convert` first"},
		{title: "internal snapshots", content: qcow2Disk(set(snapshots, be32(3))),
			reason: report.FormatRefused, message: "the qcow2 image holds 3 internal snapshots" + flatten},
		{title: "marked as corrupt", content: qcow2Disk(set(incompatible, be64(2))),
			reason: report.ImageCorrupt, message: "the qcow2 image is marked as corrupt: repair it with `qemu-img check -r all`"},
		{title: "an unknown feature", content: qcow2Disk(set(incompatible, be64(1<<40))),
			reason: report.FormatRefused, message: "the qcow2 image needs unknown features (bits 0x10000000000): convert it with an older qemu-img or `-o compat=v3`"},
		{title: "an unknown compression", content: qcow2Disk(set(incompatible, be64(8)), set(100, be32(112)), set(104, "\x07")),
			reason: report.FormatRefused, message: "the qcow2 image is compressed by an unknown method (7)" + flatten},
		{title: "qcow version 1", content: qcow2Disk(set(4, be32(1))),
			reason: report.FormatNotSupported, message: "qcow version 1 is not supported: convert the image with `qemu-img convert -O qcow2 SOURCE TARGET`"},
		{title: "qcow version 4", content: qcow2Disk(set(4, be32(4))),
			reason: report.FormatNotSupported, message: "qcow version 4 is not supported: convert the image with `qemu-img convert -O qcow2 SOURCE TARGET`"},
		{title: "clusters of 1 byte", content: qcow2Disk(set(20, be32(0))),
			reason: report.ImageCorrupt, message: "the qcow2 header asks for clusters of 2^0 bytes: only 2^9 to 2^21 exist"},
		{title: "clusters of 2^63 bytes", content: qcow2Disk(set(20, be32(63))),
			reason: report.ImageCorrupt, message: "the qcow2 header asks for clusters of 2^63 bytes: only 2^9 to 2^21 exist"},
		{title: "a virtual size of 0", content: qcow2Disk(set(size, be64(0))),
			reason: report.ImageCorrupt, message: "the qcow2 image has a virtual size of 0 bytes"},
		{title: "a virtual size of 1 EiB", content: qcow2Disk(set(size, be64(1<<60))),
			reason: report.FormatRefused, message: "the qcow2 image has a virtual size of 1152921504606846976 bytes: at most 70368744177664 are accepted"},
		{title: "a virtual size that overflows", content: qcow2Disk(set(size, be64(1<<64-1))),
			reason: report.FormatRefused, message: "the qcow2 image has a virtual size of 18446744073709551615 bytes: at most 70368744177664 are accepted"},
		{title: "a giant L1 table", content: qcow2Disk(set(l1Size, be32(1<<32-1))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table has 4294967295 entries: too many to be real"},
		{title: "an L1 table that is too small", content: qcow2Disk(set(l1Size, be32(1))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table has 1 entries: a disk of 1073741824 bytes needs 2"},
		{title: "an L1 table behind the end", content: qcow2Disk(set(l1Offset, be64(1<<40))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table ends at byte 1099511627792 but the file has only 262144: the file is truncated"},
		{title: "an L1 table whose place overflows", content: qcow2Disk(set(l1Offset, be64(1<<64-1<<16))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table begins at byte 18446744073709486080, far outside any file"},
		{title: "an L1 table that is not aligned", content: qcow2Disk(set(l1Offset, be64(3<<16+1))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table begins at byte 196609, which is no cluster behind the header"},
		{title: "an L1 table in the header", content: qcow2Disk(set(l1Offset, be64(0))),
			reason: report.ImageCorrupt, message: "the qcow2 L1 table begins at byte 0, which is no cluster behind the header"},
		{title: "a giant refcount table", content: qcow2Disk(set(refcountClusters, be32(1<<31))),
			reason: report.ImageCorrupt, message: "the qcow2 table of reference counts has 2147483648 clusters: too many to be real"},
		{title: "no refcount table", content: qcow2Disk(set(refcountClusters, be32(0))),
			reason: report.ImageCorrupt, message: "the qcow2 image has no table of reference counts"},
		{title: "refcounts behind the end", content: qcow2Disk(set(refcounts, be64(1<<33))),
			reason: report.ImageCorrupt, message: "the qcow2 table of reference counts ends at byte 8590000128 but the file has only 262144: the file is truncated"},
		{title: "refcounts of 2^100 bits", content: qcow2Disk(set(96, be32(100))),
			reason: report.ImageCorrupt, message: "the qcow2 header asks for reference counts of 2^100 bits: at most 2^6 exist"},
		{title: "a header of 4 GiB", content: qcow2Disk(set(100, be32(1<<32-1))),
			reason: report.ImageCorrupt, message: "the qcow2 header gives itself a length of 4294967295 bytes"},
		{title: "a header of 0 bytes", content: qcow2Disk(set(100, be32(0))),
			reason: report.ImageCorrupt, message: "the qcow2 header gives itself a length of 0 bytes"},
		{title: "a header extension of 4 GiB", content: qcow2Disk(set(104, be32(0x6803f857)+be32(1<<32-1))),
			reason: report.ImageCorrupt, message: "a qcow2 header extension is 4294967295 bytes long and does not fit into the first cluster"},
		{title: "a header that is cut off", content: qcow2Disk()[:80],
			reason: report.ImageCorrupt, message: "the qcow2 header is cut off: the file is truncated"},
		{title: "a qcow2 file that is cut off", content: qcow2Disk()[:100_000],
			reason: report.ImageCorrupt, message: "the qcow2 L1 table ends at byte 196624 but the file has only 100000: the file is truncated"},
		{title: "only the magic of qcow2", content: []byte("QFI\xfb"),
			reason: report.ImageCorrupt, message: "the qcow2 header is cut off: the file is truncated"},
	}
}

// badForeign are images of other programs; those that only need to be converted
// are spoilt.
func badForeign(t *testing.T) []bad {
	vmdk, stream := golden(t, "monolithicSparse.vmdk"), golden(t, "streamOptimized.vmdk")
	vdi, vhd, fixed, vhdx := golden(t, "dynamic.vdi"), golden(t, "dynamic.vpc"), golden(t, "fixed.vpc"), golden(t, "dynamic.vhdx")
	return []bad{
		{title: "a vmdk descriptor", content: golden(t, "monolithicFlat.vmdk"),
			reason: report.FormatRefused, message: "the file is a VMDK descriptor, which only names the files that a disk is in" + convert},
		{title: "a descriptor of a file", content: []byte("# Disk DescriptorFile\nversion=1\nRW 4192256 FLAT \"/dev/sda\" 0\n"),
			reason: report.FormatRefused, message: "the file is a VMDK descriptor, which only names the files that a disk is in" + convert},
		{title: "a part of a split vmdk", content: golden(t, "twoGbMaxExtentSparse-s001.vmdk"),
			reason: report.FormatRefused, message: "the VMDK image has no descriptor, so it may be a part of a disk only" + convert},
		{title: "a vmdk with a parent", content: golden(t, "child.vmdk"),
			reason: report.FormatRefused, message: "the VMDK image has a parent (\"3b386780\"), so it is only a part of a disk: merge it with its parent, or copy the disk with `vmware-vdiskmanager -r SOURCE -t 0 TARGET`"},
		{title: "a vmdk sent as a text", content: at(vmdk, 73, "\n\n\n\n"),
			reason: report.ImageCorrupt, message: "the VMDK image was transferred as a text: transfer it again as a binary file"},
		{title: "a vmdk of 2^63 sectors", content: at(vmdk, 12, le64(1<<63)),
			reason: report.FormatRefused, message: "the VMDK image has a virtual size of 9223372036854775808 sectors: at most 137438953472 are accepted"},
		{title: "a vmdk with grains of 0 sectors", content: at(vmdk, 20, le64(0)),
			reason: report.ImageCorrupt, message: "the VMDK image has grains of 0 sectors"},
		{title: "a vmdk of version 9", content: at(vmdk, 4, le32(9)),
			reason: report.FormatNotSupported, message: "VMDK version 9 is not supported" + convert},
		{title: "a truncated vmdk", content: vmdk[:8192],
			reason: report.ImageCorrupt, message: "the VMDK descriptor ends at byte 10752 but the file has only 8192: the file is truncated"},
		{title: "a truncated stream vmdk", content: stream[:700],
			reason: report.ImageCorrupt, message: "the VMDK descriptor ends at byte 10752 but the file has only 700: the file is truncated"},
		{title: "VMware's old COW", content: append([]byte("COWD\x01\x00\x00\x00"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the VMDK of ESX format, which is not supported" + convert},
		{title: "a differencing vdi", content: at(vdi, 76, le32(4)),
			reason: report.FormatRefused, message: "the VDI image is an differencing image, so it is only a part of a disk: copy the disk as it is now with `VBoxManage clonemedium SOURCE TARGET`"},
		{title: "a vdi of 2^63 bytes", content: at(vdi, 368, le64(1<<63)),
			reason: report.FormatRefused, message: "the VDI image has a virtual size of 9223372036854775808 bytes: at most 70368744177664 are accepted"},
		{title: "a vdi with more used blocks than blocks", content: at(vdi, 388, le32(1<<31)),
			reason: report.ImageCorrupt, message: "the VDI image has 2 blocks but 2147483648 of them are used"},
		{title: "a truncated vdi", content: vdi[:600],
			reason: report.ImageCorrupt, message: "the VDI image's last block ends at byte 1049600 but the file has only 600: the file is truncated"},
		{title: "a differencing vhd", content: vhdWith(vhd, 4),
			reason: report.FormatRefused, message: "the VHD image is a differencing image, so it is only a part of a disk: merge it with its parent, or copy the disk with `Convert-VHD SOURCE TARGET`"},
		{title: "a vhd with a damaged footer", content: at(vhd, 40, be64(1<<40)),
			reason: report.ImageCorrupt, message: "the VHD footer's checksum is wrong: the file is damaged"},
		{title: "a truncated vhd", content: vhd[:1024],
			reason: report.ImageCorrupt, message: "the VHD dynamic header ends at byte 1536 but the file has only 1024: the file is truncated"},
		{title: "a fixed vhd that lost its beginning", content: fixed[1<<20:],
			reason: report.ImageCorrupt, message: "the VHD image is of a disk of 1079296 bytes but the file has only 31232: the file is truncated"},
		{title: "a vhdx without headers", content: at(at(vhdx, 64<<10, "x"), 128<<10, "x"),
			reason: report.ImageCorrupt, message: "the VHDX image has no intact header: the file is damaged"},
		{title: "a vhdx without region tables", content: at(at(vhdx, 192<<10, "x"), 256<<10, "x"),
			reason: report.ImageCorrupt, message: "the VHDX image has no intact region table: the file is damaged"},
		{title: "a truncated vhdx", content: vhdx[:1<<20],
			reason: report.ImageCorrupt, message: "the VHDX region ends at byte 3145728 but the file has only 1048576: the file is truncated"},
		{title: "a Parallels disk", content: append([]byte("WithoutFreeSpace"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the Parallels format, which is not supported" + convert},
		{title: "a QED image", content: append([]byte("QED\x00"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the QED format, which is not supported" + convert},
		{title: "a Bochs image", content: append([]byte("Bochs Virtual HD Image"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the Bochs format, which is not supported" + convert},
		{title: "a cloop image", content: append([]byte("#!/bin/sh\n#V2.0 Format\n"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the cloop format, which is not supported" + convert},
		{title: "a user-mode Linux COW", content: append([]byte("OOOM"+be32(2)+"/etc/shadow"), make([]byte, 4096)...),
			reason: report.FormatNotSupported, message: "the image is in the COW format, which is not supported" + convert},
	}
}

// vhdWith changes the type of a VHD in both of its footers and keeps their
// checksums right.
func vhdWith(image []byte, kind uint32) []byte {
	changed := bytes.Clone(image)
	for _, footer := range [][]byte{changed[:512], changed[len(changed)-512:]} {
		copy(footer[60:], be32(kind)+be32(0))
		sum := uint32(0)
		for _, b := range footer {
			sum += uint32(b)
		}
		copy(footer[64:], be32(^sum))
	}
	return changed
}

// badChecksums are right images that are not the ones that were promised.
func badChecksums() []bad {
	zero := func(digits int) string { return strings.Repeat("0", digits) }
	field := "spec.dataSource.http.checksum"
	raw := rawDisk()
	return []bad{
		{title: "another md5", content: raw, args: []string{"--checksum=md5:" + zero(32)}, field: field + ".md5",
			reason: report.ChecksumMismatch, message: "the md5 checksum of the downloaded file is f1c8ad3731cb95e3b473de7eafec4ec4, but 00000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "another sha1", content: raw, args: []string{"--checksum=sha1:" + zero(40)}, field: field + ".sha1",
			reason: report.ChecksumMismatch, message: "the sha1 checksum of the downloaded file is a3df1bd10f49c37c39506ee71a897151293fa5e2, but 0000000000000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "another sha256", content: raw, args: []string{"--checksum=sha256:" + zero(64)}, field: field + ".sha256",
			reason: report.ChecksumMismatch, message: "the sha256 checksum of the downloaded file is 73fffd249c42d98bbcc2e875de238e87c46dd2020e9298626b81482adf17427d, but 0000000000000000000000000000000000000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "another sha512", content: raw, args: []string{"--checksum=sha512:" + zero(128)}, field: field + ".sha512",
			reason: report.ChecksumMismatch, message: "the sha512 checksum of the downloaded file is fa1264b730e724742ff0818b76be1e3c313cc2db36e1fdf2d17a64090e740c02c71be61ed3b8ec4038613a259cbf0f75273deb0c841dfb2b9e059a7ffc4c3303, but 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "the checksum of the unpacked file", content: gzipped(raw), field: field + ".sha256",
			args:   []string{"--checksum=sha256:" + sha256Of(raw)},
			reason: report.ChecksumMismatch, message: "the sha256 checksum of the downloaded file is 97ebf91d4b25ef9a8380f510d77c84c38e88315d0bd5ea4c6d59fef71ca21b24, but 73fffd249c42d98bbcc2e875de238e87c46dd2020e9298626b81482adf17427d is given: correct the checksum, or what is downloaded"},
		{title: "one right and one wrong checksum", content: raw, field: field + ".sha512",
			args:   []string{"--checksum=sha256:" + sha256Of(raw), "--checksum=sha512:" + zero(128)},
			reason: report.ChecksumMismatch, message: "the sha512 checksum of the downloaded file is fa1264b730e724742ff0818b76be1e3c313cc2db36e1fdf2d17a64090e740c02c71be61ed3b8ec4038613a259cbf0f75273deb0c841dfb2b9e059a7ffc4c3303, but 00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 is given: correct the checksum, or what is downloaded"},
		{title: "a checksum that is too short", content: raw, args: []string{"--checksum=sha256:beef"}, field: field,
			reason: report.ChecksumMismatch, message: "a sha256 checksum has 64 hexadecimal digits, got \"beef\""},
		{title: "a checksum that is not hexadecimal", content: raw, args: []string{"--checksum=md5:" + strings.Repeat("g", 32)}, field: field,
			reason: report.ChecksumMismatch, message: "a md5 checksum has 32 hexadecimal digits, got \"gggggggggggggggggggggggggggggggg\""},
		{title: "a checksum of an unknown algorithm", content: raw, args: []string{"--checksum=crc32:00000000"}, field: field,
			reason: report.ChecksumMismatch, message: "checksum \"crc32:00000000\" is not <algorithm>:<hex> with one of the algorithms md5, sha1, sha256, sha512"},
		{title: "a checksum of no algorithm", content: raw, args: []string{"--checksum=" + zero(64)}, field: field,
			reason: report.ChecksumMismatch, message: "checksum \"0000000000000000000000000000000000000000000000000000000000000000\" is not <algorithm>:<hex> with one of the algorithms md5, sha1, sha256, sha512"},
	}
}
