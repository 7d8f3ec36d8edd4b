// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/binary"
	"math"
)

// Facts of the format: VirtualBox's own VDI headers and QEMU's block/vdi.c, which
// knows only images with blocks of 1 MiB.
const (
	vdiMagic       = "\x7f\x10\xda\xbe"
	vdiMagicOffset = 0x40
	vdiHeaderSize  = 512
	vdiVersion     = 0x00010001
	vdiBlockSize   = 1 << 20
	vdiEntrySize   = 4
	// Blocks that are not in the file: never written, or written with zeros.
	vdiFirstUnused = math.MaxUint32 - 1
	uuidSize       = 16

	cloneVDIRemedy = "copy the disk as it is now with `VBoxManage clonemedium SOURCE TARGET`"
)

var vdiTypes = map[uint32]string{1: "dynamic", 2: "fixed", 3: "undo", 4: "differencing"}

// vdiHeader holds the fields that a verdict depends on.
type vdiHeader struct {
	version, kind                uint32
	mapOffset, dataOffset        uint64
	sectorSize, blockSize, extra uint32
	diskSize                     uint64
	blocks, allocated            uint64
	link, parent                 []byte
}

func isVDI(head []byte) bool { return signature{offset: vdiMagicOffset, magic: vdiMagic}.in(head) }

func inspectVDI(v *view) (Info, error) {
	b, err := v.bytes("VDI header", 0, vdiHeaderSize)
	if err != nil {
		return Info{}, err
	}
	le := binary.LittleEndian
	h := vdiHeader{
		version:    le.Uint32(b[0x44:]),
		kind:       le.Uint32(b[0x4c:]),
		mapOffset:  uint64(le.Uint32(b[0x154:])),
		dataOffset: uint64(le.Uint32(b[0x158:])),
		sectorSize: le.Uint32(b[0x168:]),
		diskSize:   le.Uint64(b[0x170:]),
		blockSize:  le.Uint32(b[0x178:]),
		extra:      le.Uint32(b[0x17c:]),
		blocks:     uint64(le.Uint32(b[0x180:])),
		allocated:  uint64(le.Uint32(b[0x184:])),
		link:       b[0x1a8:][:uuidSize],
		parent:     b[0x1b8:][:uuidSize],
	}
	for _, check := range []func() error{
		h.checkSelfContained,
		h.checkGeometry,
		func() error { return h.checkTables(v) },
	} {
		if err := check(); err != nil {
			return Info{}, err
		}
	}
	return Info{Format: FormatVDI, VirtualSize: roundUp(int64(h.diskSize), sectorSize)}, nil
}

func (h *vdiHeader) checkSelfContained() error {
	if h.version != vdiVersion {
		return notSupported("VDI version %d.%d is not supported: %s", h.version>>16, h.version&0xffff, convertRemedy)
	}
	name, known := vdiTypes[h.kind]
	switch {
	case !known:
		return notSupported("the VDI image is of the unknown type %d: %s", h.kind, convertRemedy)
	case h.kind > 2:
		return refused("the VDI image is an %s image, so it is only a part of a disk: %s", name, cloneVDIRemedy)
	case !isZero(h.link) || !isZero(h.parent):
		return refused("the VDI image names a parent, so it is only a part of a disk: %s", cloneVDIRemedy)
	}
	return nil
}

func (h *vdiHeader) checkGeometry() error {
	switch {
	case h.sectorSize != sectorSize:
		return refused("the VDI image has sectors of %d bytes: only %d are supported", h.sectorSize, sectorSize)
	case h.blockSize != vdiBlockSize || h.extra != 0:
		return refused("the VDI image has blocks of %d and %d bytes: only blocks of %d are supported; %s", h.blockSize, h.extra, vdiBlockSize, cloneVDIRemedy)
	case h.diskSize == 0:
		return corrupt("the VDI image has a virtual size of 0 bytes")
	case h.diskSize > MaxVirtualSize:
		return refused("the VDI image has a virtual size of %d bytes: at most %d are accepted", h.diskSize, int64(MaxVirtualSize))
	case h.blocks*vdiBlockSize < h.diskSize:
		return corrupt("the VDI image has %d blocks: a disk of %d bytes needs more", h.blocks, h.diskSize)
	case h.allocated > h.blocks:
		return corrupt("the VDI image has %d blocks but %d of them are used", h.blocks, h.allocated)
	}
	return nil
}

// checkTables compares the places of the map and of the blocks with each other
// and with the file.
func (h *vdiHeader) checkTables(v *view) error {
	mapEnd := h.mapOffset + h.blocks*vdiEntrySize
	switch {
	case h.mapOffset < vdiHeaderSize || h.mapOffset%sectorSize != 0:
		return corrupt("the VDI block map begins at byte %d, which is no sector behind the header", h.mapOffset)
	case h.dataOffset < mapEnd || h.dataOffset%sectorSize != 0:
		return corrupt("the VDI blocks begin at byte %d, which is no sector behind the block map", h.dataOffset)
	}
	if err := v.check("VDI image's last block", h.dataOffset, h.allocated*vdiBlockSize); err != nil {
		return err
	}
	return v.walk("VDI block map", h.mapOffset, h.blocks, vdiEntrySize, func(n uint64, entry []byte) error {
		if block := binary.LittleEndian.Uint32(entry); block < vdiFirstUnused && uint64(block) >= h.allocated {
			return corrupt("place %d of the VDI block map is for block %d, but only %d are used", n, block, h.allocated)
		}
		return nil
	})
}
