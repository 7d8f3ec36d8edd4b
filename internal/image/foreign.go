// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import "bytes"

// signature is a byte sequence at a fixed place that gives a format away.
type signature struct {
	offset int
	magic  string
	name   string
}

func (s signature) in(head []byte) bool {
	return len(head) > s.offset && bytes.HasPrefix(head[s.offset:], []byte(s.magic))
}

const convertRemedy = "convert it with `qemu-img convert -O qcow2 SOURCE TARGET`"

// foreignDisks are disk formats that QEMU would recognise without being told.
// None may pass as a raw disk: virt-launcher and CDI probe the format anew.
var foreignDisks = []signature{
	{0, "COWD", "VMDK of ESX"},
	{0, "QED\x00", "QED"},
	{0, "WithoutFreeSpace", "Parallels"},
	{0, "WithouFreSpacExt", "Parallels"},
	{0, "Bochs Virtual HD Image", "Bochs"},
	{0, "#!/bin/sh\n#V2.0 Format\n", "cloop"},
	{0, "OOOM", "COW"},
}

// archives are containers that people publish disk images in.
var archives = []signature{
	{257, "ustar", "tar archive (an OVA is one, too)"},
	{0, "PK\x03\x04", "zip archive"},
	{0, "7z\xbc\xaf\x27\x1c", "7z archive"},
	{0, "Rar!\x1a\x07", "RAR archive"},
	{0, "\x1f\x8b", "gzip-compressed file"},
	{0, "\xfd7zXZ\x00", "xz-compressed file"},
	{0, "\x28\xb5\x2f\xfd", "zstd-compressed file"},
	{0, "BZh", "bzip2-compressed file"},
	{0, "\x04\x22\x4d\x18", "lz4-compressed file"},
}

const luksMagic = "LUKS\xba\xbe"

// refuseForeign recognises what is certainly neither raw nor ISO, so that the
// message can name it instead of saying that nothing was found.
func refuseForeign(head []byte) error {
	if bytes.HasPrefix(head, []byte(vmdkDescriptorTitle)) {
		return refused("the file is a VMDK descriptor, which only names the files that a disk is in: %s", convertRemedy)
	}
	for _, s := range foreignDisks {
		if s.in(head) {
			return notSupported("the image is in the %s format, which is not supported: %s", s.name, convertRemedy)
		}
	}
	for _, s := range archives {
		if s.in(head) {
			return notSupported("the file is a %s, not a disk image: give the URL of the unpacked qcow2, raw or ISO image", s.name)
		}
	}
	if bytes.HasPrefix(head, []byte(luksMagic)) {
		return refused("the image is encrypted by LUKS as a whole: decrypt it first, or encrypt a partition instead")
	}
	return nil
}
