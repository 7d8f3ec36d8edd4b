// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// Facts of the format: VMware's Virtual Disk Format 5.0, and QEMU's block/vmdk.c
// for what a reader really does and for the bounds.
const (
	vmdkMagic         = "KDMV"
	vmdkHeaderSize    = 512
	vmdkNewlines      = "\n \r\n"
	vmdkMaxVersion    = 3
	vmdkMaxGrain      = 1 << 21 // Sectors.
	vmdkMaxEntries    = 512
	vmdkMaxDirectory  = 32 << 20
	vmdkMaxDescriptor = 1 << 20
	vmdkEntrySize     = 4

	vmdkFlagNewlines   = 1 << 0
	vmdkFlagRedundant  = 1 << 1
	vmdkFlagZeroGrain  = 1 << 2
	vmdkFlagCompressed = 1 << 16
	vmdkFlagMarkers    = 1 << 17
	vmdkDeflate        = 1

	// vmdkAtEnd stands where the directory's place should: a footer has it. The
	// footer is followed by one sector and follows one; both are marks.
	vmdkAtEnd        = math.MaxUint64
	vmdkFooterLength = 3 * sectorSize
	vmdkFooterMark   = 3
	// A compressed grain begins with its place on the disk and its length.
	vmdkGrainMark = 12

	// QEMU looks for a parent's name here, wherever the header says that the
	// descriptor is.
	vmdkQEMUDescriptor       = 512
	vmdkQEMUDescriptorLength = 20 * sectorSize
	vmdkParentName           = "parentFileNameHint"

	mergeVMDKRemedy = "merge it with its parent, or copy the disk with `vmware-vdiskmanager -r SOURCE -t 0 TARGET`"
)

// vmdkHeader is the header of a sparse file. Places and lengths are in sectors.
type vmdkHeader struct {
	version, flags             uint32
	capacity, grain            uint64
	descriptor, descriptorSize uint64
	tableEntries               uint64
	redundant, directory       uint64
	// footer is true once the place of the directory comes from there.
	footer      bool
	newlines    string
	compression uint16
	// overhead is how much lies before the first grain.
	overhead uint64
	// last is the place of the last compressed grain, as far as tables were read.
	last uint64
}

func isVMDK(head []byte) bool { return bytes.HasPrefix(head, []byte(vmdkMagic)) }

func parseVMDK(b []byte) *vmdkHeader {
	le := binary.LittleEndian
	return &vmdkHeader{
		version:        le.Uint32(b[4:]),
		flags:          le.Uint32(b[8:]),
		capacity:       le.Uint64(b[12:]),
		grain:          le.Uint64(b[20:]),
		descriptor:     le.Uint64(b[28:]),
		descriptorSize: le.Uint64(b[36:]),
		tableEntries:   uint64(le.Uint32(b[44:])),
		redundant:      le.Uint64(b[48:]),
		directory:      le.Uint64(b[56:]),
		newlines:       string(b[73:77]),
		compression:    le.Uint16(b[77:]),
		overhead:       le.Uint64(b[64:]),
	}
}

func inspectVMDK(v *view) (Info, error) {
	h, err := readVMDK(v)
	if err != nil {
		return Info{}, err
	}
	return h.info(), nil
}

func (h *vmdkHeader) info() Info {
	return Info{Format: FormatVMDK, VirtualSize: int64(h.capacity) * sectorSize}
}

// readVMDK reads the header and checks all that it leads to.
func readVMDK(v *view) (*vmdkHeader, error) {
	b, err := v.bytes("VMDK header", 0, vmdkHeaderSize)
	if err != nil {
		return nil, err
	}
	h := parseVMDK(b)
	for _, check := range []func() error{
		h.check,
		func() error { return h.checkDescriptor(v) },
		func() error { return h.useFooter(v) },
		func() error { return h.checkTables(v) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// check verifies what the header says by itself.
func (h *vmdkHeader) check() error {
	switch {
	case h.version == 0 || h.version > vmdkMaxVersion:
		return notSupported("VMDK version %d is not supported: %s", h.version, convertRemedy)
	case h.flags&vmdkFlagNewlines != 0 && h.newlines != vmdkNewlines:
		return corrupt("the VMDK image was transferred as a text: transfer it again as a binary file")
	case h.capacity == 0:
		// QEMU would follow the descriptor to the files that it names.
		return refused("the VMDK image holds no disk itself: %s", convertRemedy)
	case h.capacity > MaxVirtualSize/sectorSize:
		return refused("the VMDK image has a virtual size of %d sectors: at most %d are accepted", h.capacity, int64(MaxVirtualSize/sectorSize))
	case h.grain == 0 || h.grain > vmdkMaxGrain || h.grain&(h.grain-1) != 0:
		return corrupt("the VMDK image has grains of %d sectors", h.grain)
	case h.tableEntries == 0 || h.tableEntries > vmdkMaxEntries:
		return corrupt("the VMDK image has grain tables of %d entries", h.tableEntries)
	case h.tables()*vmdkEntrySize > vmdkMaxDirectory:
		return corrupt("the VMDK grain directory has %d entries: too many to be real", h.tables())
	case h.compression > vmdkDeflate:
		return refused("the VMDK image is compressed by an unknown method (%d): %s", h.compression, convertRemedy)
	case h.compressed() && h.compression != vmdkDeflate:
		return corrupt("the VMDK header contradicts itself about the compression method")
	}
	return nil
}

// geometry is what QEMU takes from the footer if there is one, except for the
// directory's place.
func (h *vmdkHeader) geometry() vmdkHeader {
	return vmdkHeader{version: h.version, flags: h.flags, compression: h.compression, capacity: h.capacity, grain: h.grain, tableEntries: h.tableEntries}
}

func (h *vmdkHeader) compressed() bool { return h.flags&vmdkFlagCompressed != 0 }

// tables is how many grain tables the disk needs.
func (h *vmdkHeader) tables() uint64 {
	covered := h.grain * h.tableEntries
	return (h.capacity + covered - 1) / covered
}

// checkDescriptor reads the text in the file. It has to be there: it is what
// says that the file is the whole disk.
func (h *vmdkHeader) checkDescriptor(v *view) error {
	if h.descriptor == 0 || h.descriptorSize == 0 {
		return refused("the VMDK image has no descriptor, so it may be a part of a disk only: %s", convertRemedy)
	}
	if h.descriptor > HeadSize || h.descriptorSize > vmdkMaxDescriptor/sectorSize {
		return corrupt("the VMDK descriptor is at sector %d with %d sectors: too far or too many to be real", h.descriptor, h.descriptorSize)
	}
	text, err := v.bytes("VMDK descriptor", h.descriptor*sectorSize, h.descriptorSize*sectorSize)
	if errors.Is(err, errUnseen) {
		return refused("the VMDK descriptor is at sector %d, too far behind the beginning: %s", h.descriptor, convertRemedy)
	}
	if err != nil {
		return err
	}
	descriptor, err := parseVMDKDescriptor(text)
	if err != nil {
		return err
	}
	if descriptor.stream() != h.compressed() {
		return corrupt("the VMDK image is %s by its descriptor, but not by its header", descriptor.kind)
	}
	seen := v.head[min(vmdkQEMUDescriptor, len(v.head)):min(vmdkQEMUDescriptor+vmdkQEMUDescriptorLength, len(v.head))]
	if bytes.Contains(seen, []byte(vmdkParentName)) {
		return refused("the VMDK image names a parent, so it is only a part of a disk: %s", mergeVMDKRemedy)
	}
	return nil
}

// useFooter replaces the place of the directory by the one in the footer, which
// has to agree with the header in everything else that counts.
func (h *vmdkHeader) useFooter(v *view) error {
	if h.directory != vmdkAtEnd || v.size < 0 {
		return nil
	}
	if v.size < vmdkHeaderSize+vmdkFooterLength {
		return corrupt("the VMDK image has only %d bytes: the file is truncated", v.size)
	}
	b, err := v.bytes("VMDK footer", uint64(v.size)-vmdkFooterLength, vmdkFooterLength)
	if errors.Is(err, errUnseen) {
		return nil
	}
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	mark, footer, end := b[:sectorSize], b[sectorSize:2*sectorSize], b[2*sectorSize:]
	if le.Uint32(mark[8:]) != 0 || le.Uint32(mark[12:]) != vmdkFooterMark || !isVMDK(footer) || !isZero(end[:16]) {
		return corrupt("the VMDK image does not end with a footer: the file is truncated")
	}
	last := parseVMDK(footer)
	switch {
	case last.geometry() != h.geometry():
		return corrupt("the VMDK footer contradicts the header")
	case last.directory == vmdkAtEnd:
		return corrupt("the VMDK footer does not say where the grain directory is")
	}
	h.directory, h.footer = last.directory, true
	return nil
}

// checkTables verifies the directory and, where it can be seen, the tables that
// it lists.
func (h *vmdkHeader) checkTables(v *view) error {
	if h.directory == vmdkAtEnd {
		return nil
	}
	if h.flags&vmdkFlagRedundant != 0 {
		if err := h.checkPlace(v, "VMDK redundant grain directory", h.redundant, h.tables()*vmdkEntrySize); err != nil {
			return err
		}
	}
	if err := h.checkPlace(v, "VMDK grain directory", h.directory, h.tables()*vmdkEntrySize); err != nil {
		return err
	}
	walker := &grainWalker{header: h, view: v}
	if err := v.walk("VMDK grain directory", h.directory*sectorSize, h.tables(), vmdkEntrySize, walker.add); err != nil {
		return err
	}
	if err := walker.flush(); err != nil {
		return err
	}
	h.last = walker.last
	return walker.checkLast()
}

func (h *vmdkHeader) checkPlace(v *view, what string, sector, length uint64) error {
	if sector == 0 || sector > math.MaxInt64/sectorSize {
		return corrupt("the %s is at sector %d", what, sector)
	}
	return v.check(what, sector*sectorSize, length)
}

// grainWalker looks at the grain tables. Those that are neighbours are read at
// once, because each read may be a request to a distant server.
type grainWalker struct {
	header *vmdkHeader
	view   *view

	// A series of tables: the first one's number and place, and how many.
	first, sector, count uint64
	// last is the place of the last compressed grain.
	last uint64
}

func (w *grainWalker) tableSectors() uint64 {
	return (w.header.tableEntries*vmdkEntrySize + sectorSize - 1) / sectorSize
}

func (w *grainWalker) add(n uint64, entry []byte) error {
	sector := uint64(binary.LittleEndian.Uint32(entry))
	if sector == 0 {
		return nil
	}
	if err := w.header.checkPlace(w.view, "VMDK grain table", sector, w.header.tableEntries*vmdkEntrySize); err != nil {
		return err
	}
	if w.count > 0 && n == w.first+w.count && sector == w.sector+w.count*w.tableSectors() {
		w.count++
		return nil
	}
	err := w.flush()
	w.first, w.sector, w.count = n, sector, 1
	return err
}

// flush looks at the tables of a series. With a footer they lie apart, and the
// footer has proved that the file is complete.
func (w *grainWalker) flush() error {
	// Tables fill whole sectors only if they have the usual number of entries.
	whole := w.header.tableEntries*vmdkEntrySize%sectorSize == 0
	if w.count == 0 || w.header.footer || !whole {
		return nil
	}
	entries := w.count * w.header.tableEntries
	first := w.first * w.header.tableEntries
	return w.view.walk("VMDK grain table", w.sector*sectorSize, entries, vmdkEntrySize, func(n uint64, entry []byte) error {
		return w.checkGrain(first+n, uint64(binary.LittleEndian.Uint32(entry)))
	})
}

func (w *grainWalker) checkGrain(n, sector uint64) error {
	begin := n * w.header.grain
	if sector == 0 || sector == 1 && w.header.flags&vmdkFlagZeroGrain != 0 || begin >= w.header.capacity {
		return nil
	}
	length := min(w.header.grain, w.header.capacity-begin) * sectorSize
	if w.header.compressed() {
		length = vmdkGrainMark
		w.last = max(w.last, sector)
	}
	return w.view.check("VMDK image's grain", sector*sectorSize, length)
}

// checkLast verifies the end of the compressed grain that is the last one in the
// file: only the grain itself tells its length.
func (w *grainWalker) checkLast() error {
	if w.last == 0 {
		return nil
	}
	mark, err := w.view.bytes("VMDK image's last grain", w.last*sectorSize, vmdkGrainMark)
	if errors.Is(err, errUnseen) {
		return nil
	}
	if err != nil {
		return err
	}
	length := uint64(binary.LittleEndian.Uint32(mark[8:]))
	return w.view.check("VMDK image's last grain", w.last*sectorSize, vmdkGrainMark+length)
}
