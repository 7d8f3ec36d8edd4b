// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"net/http"
	"slices"
)

// Optical discs: the volume descriptors begin at sector 16 of 2048 bytes.
const (
	opticalDescriptorOffset = 16 * 2048
	isoIdentifier           = "CD001"
	udfIdentifier           = "BEA01"
)

// isISO recognises ISO 9660 and UDF, hybrid images that also have a partition
// table included.
func isISO(head []byte) bool {
	return signature{offset: opticalDescriptorOffset + 1, magic: isoIdentifier}.in(head) ||
		signature{offset: opticalDescriptorOffset + 1, magic: udfIdentifier}.in(head)
}

func inspectISO(size int64) (Info, error) { return plainInfo(FormatISO, size, true) }

// rawEvidence is what the beginning of a real disk looks like. A raw image has
// no header of its own, so without any of these a text file would do as well.
var rawEvidence = []signature{
	{510, "\x55\xaa", "boot sector or MBR"},
	{512, "EFI PART", "GPT, sectors of 512 bytes"},
	{4096, "EFI PART", "GPT, sectors of 4096 bytes"},
	{1080, "\x53\xef", "ext2/3/4"},
	{0, "XFSB", "XFS"},
	{0x10040, "_BHRfS_M", "btrfs"},
	{512, "LABELONE", "LVM physical volume"},
	{4086, "SWAPSPACE2", "swap"},
	{0, "hsqs", "squashfs"},
}

// inspectRaw accepts what shows a partition table or a file system, and a disk
// that begins with nothing at all.
func inspectRaw(head []byte, size int64) (Info, error) {
	known := slices.ContainsFunc(rawEvidence, func(s signature) bool { return s.in(head) })
	if !known && !isBlank(head, size) {
		return Info{}, notSupported("the file is not a disk image: it is neither qcow2 nor ISO and shows no partition table or file system (it looks like %s); "+
			"check the URL, or convert a raw disk with `qemu-img convert -f raw -O qcow2 SOURCE TARGET`", http.DetectContentType(head))
	}
	return plainInfo(FormatRaw, size, false)
}

// isBlank tells whether the file may be an empty disk: whole sectors, all zero
// as far as the head shows.
func isBlank(head []byte, size int64) bool {
	return len(head) >= sectorSize && (size < 0 || size%sectorSize == 0) && len(bytes.Trim(head, "\x00")) == 0
}
