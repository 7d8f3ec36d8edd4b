// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// Facts of the format: Microsoft's Virtual Hard Disk Image Format Specification,
// and QEMU's block/vpc.c for the bounds.
const (
	vhdCookie             = "conectix"
	vhdDynamicCookie      = "cxsparse"
	vhdFooterSize         = 512
	vhdDynamicSize        = 1024
	vhdChecksumOffset     = 64
	vhdDynamicChecksum    = 36
	vhdVersion            = 0x00010000
	vhdMaxSize            = 2040 << 30
	vhdMinBlock           = 512
	vhdMaxBlock           = 256 << 20
	vhdMaxTableBytes      = 32 << 20
	vhdEntrySize          = 4
	vhdUnusedBlock        = math.MaxUint32
	vhdParentOffset       = 40
	vhdParentLocators     = 576
	vhdParentLocatorsSize = 8 * 24

	mergeVHDRemedy = "merge it with its parent, or copy the disk with `Convert-VHD SOURCE TARGET`"
)

const (
	vhdFixed        = 2
	vhdDynamic      = 3
	vhdDifferencing = 4
)

func isVHD(head []byte) bool { return bytes.HasPrefix(head, []byte(vhdCookie)) }

// vhdFooter is the structure at the end of every VHD, of which a dynamic one has
// a copy at its beginning.
type vhdFooter struct {
	version       uint32
	dynamicOffset uint64
	diskSize      uint64
	kind          uint32
}

// parseVHDFooter verifies the checksum and what all kinds have in common. The
// size is the one that the footer gives: the geometry beside it is a rounded one
// that some programs put there for old BIOSes.
func parseVHDFooter(b []byte) (*vhdFooter, error) {
	be := binary.BigEndian
	if vhdSum(b, vhdChecksumOffset) != be.Uint32(b[vhdChecksumOffset:]) {
		return nil, corrupt("the VHD footer's checksum is wrong: the file is damaged")
	}
	footer := &vhdFooter{
		version:       be.Uint32(b[12:]),
		dynamicOffset: be.Uint64(b[16:]),
		diskSize:      be.Uint64(b[48:]),
		kind:          be.Uint32(b[60:]),
	}
	switch {
	case footer.version != vhdVersion:
		return nil, notSupported("VHD version %#x is not supported: %s", footer.version, convertRemedy)
	case footer.kind == vhdDifferencing:
		return nil, refused("the VHD image is a differencing image, so it is only a part of a disk: %s", mergeVHDRemedy)
	case footer.kind != vhdFixed && footer.kind != vhdDynamic:
		return nil, notSupported("the VHD image is of the unknown type %d: %s", footer.kind, convertRemedy)
	case footer.diskSize == 0:
		return nil, corrupt("the VHD image has a virtual size of 0 bytes")
	case footer.diskSize > vhdMaxSize:
		return nil, refused("the VHD image has a virtual size of %d bytes: at most %d are possible", footer.diskSize, int64(vhdMaxSize))
	case footer.diskSize%sectorSize != 0:
		return nil, corrupt("the VHD image has a virtual size of %d bytes, which are no whole sectors", footer.diskSize)
	}
	return footer, nil
}

// vhdSum is the complement of the sum of all bytes but the checksum's own.
func vhdSum(b []byte, at int) uint32 {
	var sum uint32
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// inspectVHD is for files that begin with a copy of the footer.
func inspectVHD(v *view) (Info, error) {
	b, err := v.bytes("VHD header", 0, vhdFooterSize)
	if err != nil {
		return Info{}, err
	}
	footer, err := parseVHDFooter(b)
	if err != nil {
		return Info{}, err
	}
	if footer.kind == vhdFixed {
		return Info{}, corrupt("the VHD image is a fixed one, but begins like a dynamic one")
	}
	if err := footer.checkDynamic(v); err != nil {
		return Info{}, err
	}
	return Info{Format: FormatVPC, VirtualSize: int64(footer.diskSize)}, nil
}

// checkDynamic verifies the header that tells where the blocks are.
func (h *vhdFooter) checkDynamic(v *view) error {
	if h.dynamicOffset < vhdFooterSize {
		return corrupt("the VHD dynamic header begins at byte %d, in the copy of the footer", h.dynamicOffset)
	}
	b, err := v.bytes("VHD dynamic header", h.dynamicOffset, vhdDynamicSize)
	if errors.Is(err, errUnseen) {
		return refused("the VHD dynamic header begins at byte %d, too far behind the beginning: %s", h.dynamicOffset, convertRemedy)
	}
	if err != nil {
		return err
	}
	be := binary.BigEndian
	switch {
	case !bytes.HasPrefix(b, []byte(vhdDynamicCookie)):
		return corrupt("the VHD image has no dynamic header at byte %d", h.dynamicOffset)
	case vhdSum(b, vhdDynamicChecksum) != be.Uint32(b[vhdDynamicChecksum:]):
		return corrupt("the checksum of the VHD dynamic header is wrong: the file is damaged")
	case be.Uint32(b[24:]) != vhdVersion:
		return notSupported("VHD dynamic header version %#x is not supported: %s", be.Uint32(b[24:]), convertRemedy)
	case !isZero(b[vhdParentOffset:][:uuidSize]) || !isZero(b[vhdParentLocators:][:vhdParentLocatorsSize]):
		return refused("the VHD image names a parent, so it is only a part of a disk: %s", mergeVHDRemedy)
	}
	return h.checkTable(v, be.Uint64(b[16:]), uint64(be.Uint32(b[28:])), uint64(be.Uint32(b[32:])))
}

// checkTable verifies the table of blocks, as far as it can be seen.
func (h *vhdFooter) checkTable(v *view, table, entries, block uint64) error {
	switch {
	case block < vhdMinBlock || block > vhdMaxBlock || block&(block-1) != 0:
		return corrupt("the VHD image has blocks of %d bytes", block)
	case entries*block < h.diskSize:
		return corrupt("the VHD block table has %d entries: a disk of %d bytes needs more", entries, h.diskSize)
	case entries*vhdEntrySize > vhdMaxTableBytes:
		return corrupt("the VHD block table has %d entries: too many to be real", entries)
	case table < h.dynamicOffset+vhdDynamicSize || table%sectorSize != 0:
		return corrupt("the VHD block table begins at byte %d, which is no sector behind the dynamic header", table)
	}
	if err := v.check("VHD block table", table, entries*vhdEntrySize); err != nil {
		return err
	}
	// A block begins with a bitmap of its sectors.
	bitmap := uint64(roundUp(int64(block/sectorSize+7)/8, sectorSize))
	used := (h.diskSize + block - 1) / block
	return v.walk("VHD block table", table, used, vhdEntrySize, func(n uint64, entry []byte) error {
		sector := binary.BigEndian.Uint32(entry)
		if sector == vhdUnusedBlock {
			return nil
		}
		needed := bitmap + min(block, h.diskSize-n*block)
		return v.check("VHD image's block", uint64(sector)*sectorSize, needed)
	})
}

// inspectVHDFooter recognises a fixed VHD, which is a raw disk with a footer
// behind it. It tells nothing about
// other files, and if the end is not at hand.
func inspectVHDFooter(v *view) (Info, error) {
	if v.size < vhdFooterSize || v.size > MaxVirtualSize {
		return Info{}, nil
	}
	b, err := v.bytes("VHD footer", uint64(v.size)-vhdFooterSize, vhdFooterSize)
	if errors.Is(err, errUnseen) {
		return Info{}, nil
	}
	if err != nil || !bytes.HasPrefix(b, []byte(vhdCookie)) {
		return Info{}, err
	}
	footer, err := parseVHDFooter(b)
	switch {
	case err != nil:
		return Info{}, err
	case footer.kind != vhdFixed:
		return Info{}, corrupt("the VHD image is a dynamic one, but does not begin like one: the file is damaged")
	case footer.diskSize > uint64(v.size)-vhdFooterSize:
		return Info{}, corrupt("the VHD image is of a disk of %d bytes but the file has only %d: the file is truncated", footer.diskSize, v.size)
	}
	return Info{Format: FormatVPC, VirtualSize: int64(footer.diskSize)}, nil
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
