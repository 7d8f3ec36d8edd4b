// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Facts of the format: Microsoft's [MS-VHDX].
const (
	vhdxMagic         = "vhdxfile"
	vhdxHeaderMagic   = "head"
	vhdxRegionMagic   = "regi"
	vhdxMetadataMagic = "metadata"

	vhdxHeaderSize   = 4 << 10
	vhdxTableSize    = 64 << 10
	vhdxVersion      = 1
	vhdxChecksum     = 4
	vhdxUnit         = 1 << 20
	vhdxMaxEntries   = 2047
	vhdxEntrySize    = 32
	vhdxGUIDSize     = 16
	vhdxMinBlock     = 1 << 20
	vhdxMaxBlock     = 256 << 20
	vhdxBATEntrySize = 8
	// A bitmap block describes 2^23 sectors.
	vhdxBitmapSectors = 1 << 23

	vhdxRegionRequired   = 1 << 0
	vhdxMetadataUser     = 1 << 0
	vhdxMetadataRequired = 1 << 2
	vhdxHasParent        = 1 << 1

	mergeVHDXRemedy = "merge it with its parent, or copy the disk with `Convert-VHD SOURCE TARGET`"
)

// The two places of each structure that exists twice.
var (
	vhdxHeaders      = []uint64{64 << 10, 128 << 10}
	vhdxRegionTables = []uint64{192 << 10, 256 << 10}
)

// GUIDs as they are in the file.
const (
	vhdxRegionBAT      = "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08"
	vhdxRegionMetadata = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"

	vhdxFileParameters = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
	vhdxDiskSize       = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8"
	vhdxDiskID         = "\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46"
	vhdxLogicalSector  = "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f"
	vhdxPhysicalSector = "\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56"
	vhdxParentLocator  = "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"
)

// vhdxSizes are the known items of metadata with their lengths. A parent's
// locator is not among them: it is refused.
var vhdxSizes = map[string]uint32{
	vhdxFileParameters: 8,
	vhdxDiskSize:       8,
	vhdxDiskID:         16,
	vhdxLogicalSector:  4,
	vhdxPhysicalSector: 4,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// part is a range of the file.
type part struct{ offset, length uint64 }

// vhdx is what is known of an image while it is being looked at.
type vhdx struct {
	view          *view
	bat, metadata part
	items         map[string][]byte
	size, block   uint64
}

func isVHDX(head []byte) bool { return bytes.HasPrefix(head, []byte(vhdxMagic)) }

func inspectVHDX(v *view) (Info, error) {
	x := &vhdx{view: v, items: map[string][]byte{}}
	for _, check := range []func() error{x.checkLog, x.readRegions, x.readMetadata, x.checkGeometry, x.checkBAT} {
		err := check()
		if errors.Is(err, errUnseen) && x.metadata.length > 0 {
			return Info{}, refused("the VHDX image keeps its metadata at byte %d, too far behind the beginning: %s", x.metadata.offset, convertRemedy)
		}
		if err != nil {
			return Info{}, err
		}
	}
	return Info{Format: FormatVHDX, VirtualSize: int64(x.size)}, nil
}

// vhdxIntact verifies a structure's mark and its checksum, for which the
// checksum's own bytes count as zeros.
func vhdxIntact(b []byte, magic string) bool {
	if !bytes.HasPrefix(b, []byte(magic)) {
		return false
	}
	sum := crc32.Update(0, castagnoli, b[:vhdxChecksum])
	sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
	sum = crc32.Update(sum, castagnoli, b[vhdxChecksum+crc32.Size:])
	return sum == binary.LittleEndian.Uint32(b[vhdxChecksum:])
}

// checkLog finds the header in force, the newer of the intact ones, and refuses
// an image whose log has to be worked off before it can be read.
func (x *vhdx) checkLog() error {
	var current []byte
	for _, offset := range vhdxHeaders {
		b, err := x.view.bytes("VHDX header", offset, vhdxHeaderSize)
		if err != nil {
			return err
		}
		newer := current == nil || binary.LittleEndian.Uint64(b[8:]) > binary.LittleEndian.Uint64(current[8:])
		if vhdxIntact(b, vhdxHeaderMagic) && newer {
			current = b
		}
	}
	switch {
	case current == nil:
		return corrupt("the VHDX image has no intact header: the file is damaged")
	case binary.LittleEndian.Uint16(current[66:]) != vhdxVersion:
		return notSupported("VHDX version %d is not supported: %s", binary.LittleEndian.Uint16(current[66:]), convertRemedy)
	case !isZero(current[48:][:vhdxGUIDSize]):
		return refused("the VHDX image was not closed properly, so its log still holds a part of it: " +
			"attach it once with `Mount-VHD`, or repair it with `qemu-img check -r all`")
	}
	return nil
}

func (x *vhdx) readRegions() error {
	for _, offset := range vhdxRegionTables {
		b, err := x.view.bytes("VHDX region table", offset, vhdxTableSize)
		if err != nil {
			return err
		}
		if vhdxIntact(b, vhdxRegionMagic) {
			return x.parseRegions(b)
		}
	}
	return corrupt("the VHDX image has no intact region table: the file is damaged")
}

func (x *vhdx) parseRegions(b []byte) error {
	le := binary.LittleEndian
	count := le.Uint32(b[8:])
	if count > vhdxMaxEntries {
		return corrupt("the VHDX region table has %d entries: too many to be real", count)
	}
	places := map[string]*part{vhdxRegionBAT: &x.bat, vhdxRegionMetadata: &x.metadata}
	for n := range count {
		entry := b[16+n*vhdxEntrySize:][:vhdxEntrySize]
		region := part{offset: le.Uint64(entry[16:]), length: uint64(le.Uint32(entry[24:]))}
		place, known := places[string(entry[:vhdxGUIDSize])]
		switch {
		case !known && le.Uint32(entry[28:])&vhdxRegionRequired != 0:
			return refused("the VHDX image needs an unknown region (%x): %s", entry[:vhdxGUIDSize], convertRemedy)
		case !known:
			continue
		case place.length != 0:
			return corrupt("the VHDX region table has the same region twice")
		case region.length == 0 || region.length%vhdxUnit != 0 || region.offset < vhdxUnit || region.offset%vhdxUnit != 0:
			return corrupt("a VHDX region begins at byte %d with %d bytes, which are no whole MiB behind the headers", region.offset, region.length)
		}
		if err := x.view.check("VHDX region", region.offset, region.length); err != nil {
			return err
		}
		*place = region
	}
	if x.bat.length == 0 || x.metadata.length == 0 {
		return corrupt("the VHDX region table lacks the block table or the metadata")
	}
	if x.bat.offset < x.metadata.offset+x.metadata.length && x.metadata.offset < x.bat.offset+x.bat.length {
		return corrupt("the VHDX block table and the metadata are in the same place")
	}
	return nil
}

func (x *vhdx) readMetadata() error {
	b, err := x.view.bytes("VHDX metadata table", x.metadata.offset, vhdxTableSize)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	count := int(le.Uint16(b[10:]))
	if !bytes.HasPrefix(b, []byte(vhdxMetadataMagic)) || count > vhdxMaxEntries {
		return corrupt("the VHDX image has no metadata table at byte %d", x.metadata.offset)
	}
	for n := range count {
		if err := x.readItem(b[32+n*vhdxEntrySize:][:vhdxEntrySize]); err != nil {
			return err
		}
	}
	for id := range vhdxSizes {
		if id != vhdxPhysicalSector && id != vhdxDiskID && x.items[id] == nil {
			return corrupt("the VHDX metadata lacks the disk's size, its sectors or its blocks")
		}
	}
	return nil
}

func (x *vhdx) readItem(entry []byte) error {
	le := binary.LittleEndian
	id := string(entry[:vhdxGUIDSize])
	offset, length, flags := le.Uint32(entry[16:]), le.Uint32(entry[20:]), le.Uint32(entry[24:])
	size, known := vhdxSizes[id]
	switch {
	case id == vhdxParentLocator:
		return refused("the VHDX image names a parent, so it is only a part of a disk: %s", mergeVHDXRemedy)
	case flags&vhdxMetadataUser != 0 || !known:
		if flags&vhdxMetadataRequired != 0 {
			return refused("the VHDX image needs unknown metadata (%x): %s", id, convertRemedy)
		}
		return nil
	case x.items[id] != nil:
		return corrupt("the VHDX metadata has the same item twice")
	case length != size || offset < vhdxTableSize || uint64(offset)+uint64(length) > x.metadata.length:
		return corrupt("an item of the VHDX metadata is at byte %d with %d bytes", offset, length)
	}
	item, err := x.view.bytes("VHDX metadata", x.metadata.offset+uint64(offset), uint64(length))
	x.items[id] = item
	return err
}

func (x *vhdx) checkGeometry() error {
	le := binary.LittleEndian
	x.size = le.Uint64(x.items[vhdxDiskSize])
	x.block = uint64(le.Uint32(x.items[vhdxFileParameters]))
	sector := le.Uint32(x.items[vhdxLogicalSector])
	switch {
	case le.Uint32(x.items[vhdxFileParameters][4:])&vhdxHasParent != 0:
		return refused("the VHDX image is a differencing image, so it is only a part of a disk: %s", mergeVHDXRemedy)
	case sector != sectorSize:
		// The partition table counts in sectors, so it would not be understood.
		return refused("the VHDX image has logical sectors of %d bytes: only disks with sectors of %d are supported", sector, sectorSize)
	case x.size == 0:
		return corrupt("the VHDX image has a virtual size of 0 bytes")
	case x.size > MaxVirtualSize:
		return refused("the VHDX image has a virtual size of %d bytes: at most %d are accepted", x.size, int64(MaxVirtualSize))
	case x.size%sectorSize != 0:
		return corrupt("the VHDX image has a virtual size of %d bytes, which are no whole sectors", x.size)
	case x.block < vhdxMinBlock || x.block > vhdxMaxBlock || x.block&(x.block-1) != 0:
		return corrupt("the VHDX image has blocks of %d bytes", x.block)
	}
	return nil
}

// checkBAT verifies the block table, as far as it can be seen. An entry for a
// bitmap, which a disk without a parent has no use for, follows every so many
// entries for blocks.
func (x *vhdx) checkBAT() error {
	blocks := (x.size + x.block - 1) / x.block
	ratio := vhdxBitmapSectors * sectorSize / x.block
	entries := blocks + (blocks-1)/ratio
	if entries*vhdxBATEntrySize > x.bat.length {
		return corrupt("the VHDX block table has %d bytes: a disk of %d bytes needs more", x.bat.length, x.size)
	}
	return x.view.walk("VHDX block table", x.bat.offset, entries, vhdxBATEntrySize, func(n uint64, entry []byte) error {
		if n%(ratio+1) == ratio {
			return nil
		}
		block := n - n/(ratio+1)
		return x.checkBlock(block, binary.LittleEndian.Uint64(entry))
	})
}

func (x *vhdx) checkBlock(block, entry uint64) error {
	offset := entry &^ (vhdxUnit - 1)
	switch state := entry & 7; state {
	case 0, 1, 2, 3: // Not present, undefined, zeros, unmapped.
		return nil
	case 6:
		if offset < vhdxUnit {
			return corrupt("block %d of the VHDX image is in the place of the headers", block)
		}
		return x.view.check("VHDX image's block", offset, min(x.block, x.size-block*x.block))
	case 7:
		return refused("block %d of the VHDX image is partly in a parent: %s", block, mergeVHDXRemedy)
	default:
		return corrupt("block %d of the VHDX image is in the unknown state %d", block, state)
	}
}
