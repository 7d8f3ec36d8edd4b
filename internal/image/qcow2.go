// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
)

// Facts of the format: QEMU's docs/interop/qcow2. The bounds on tables are the
// ones QEMU itself refuses to exceed.
const (
	qcow2Magic          = "QFI\xfb"
	qcow2HeaderLengthV2 = 72
	qcow2HeaderLengthV3 = 104

	qcow2MinClusterBits         = 9
	qcow2MaxClusterBits         = 21
	qcow2MinClusterBitsExtended = 14
	qcow2MaxL1Bytes             = 32 << 20
	qcow2MaxRefcountTableBytes  = 8 << 20
	qcow2MaxRefcountOrder       = 6

	qcow2FeatureDirty        = 1 << 0
	qcow2FeatureCorrupt      = 1 << 1
	qcow2FeatureDataFile     = 1 << 2
	qcow2FeatureCompression  = 1 << 3
	qcow2FeatureExtendedL2   = 1 << 4
	qcow2FeaturesKnown       = qcow2FeatureDirty | qcow2FeatureCorrupt | qcow2FeatureDataFile | qcow2FeatureCompression | qcow2FeatureExtendedL2
	qcow2CompressionTypeByte = 104
	qcow2MaxCompressionType  = 1 // 0 is zlib, 1 is zstd.

	qcow2ExtensionEnd           = 0
	qcow2ExtensionBackingFormat = 0xe2792aca
	qcow2ExtensionEncryption    = 0x0537be77
	qcow2ExtensionDataFile      = 0x44415441

	flattenRemedy = "make it self-contained with `qemu-img convert -O qcow2 SOURCE TARGET`"
)

func isQCOW2(head []byte) bool { return bytes.HasPrefix(head, []byte(qcow2Magic)) }

// qcow2Header holds the fields that a verdict depends on.
type qcow2Header struct {
	version               uint32
	backingFileOffset     uint64
	backingFileSize       uint32
	clusterBits           uint32
	size                  uint64
	cryptMethod           uint32
	l1Size                uint32
	l1TableOffset         uint64
	refcountTableOffset   uint64
	refcountTableClusters uint32
	snapshots             uint32

	// Of version 3 only.
	incompatibleFeatures uint64
	refcountOrder        uint32
	headerLength         uint32
}

// QCOW2 is what a checked qcow2 header says of the file's structure. Offsets and
// lengths are in bytes.
type QCOW2 struct {
	Version int
	// VirtualSize is the size of the disk as a guest sees it.
	VirtualSize           int64
	ClusterBits           int
	L1Offset              int64
	L1Entries             int
	RefcountTableOffset   int64
	RefcountTableLength   int64
	CompressedByZstandard bool
	// ExtendedL2 means entries of 16 bytes that divide a cluster into 32.
	ExtendedL2 bool
}

// ParseQCOW2 reads the header of a qcow2 image and refuses whatever Inspect
// refuses.
func ParseQCOW2(head []byte, size int64) (QCOW2, error) {
	if !isQCOW2(head) {
		return QCOW2{}, notSupported("the file is not a qcow2 image")
	}
	h, err := checkedQCOW2(head, size)
	if err != nil {
		return QCOW2{}, err
	}
	return QCOW2{
		Version:               int(h.version),
		VirtualSize:           roundUp(int64(h.size), sectorSize),
		ClusterBits:           int(h.clusterBits),
		L1Offset:              int64(h.l1TableOffset),
		L1Entries:             int(h.l1Size),
		RefcountTableOffset:   int64(h.refcountTableOffset),
		RefcountTableLength:   int64(h.refcountTableClusters) << h.clusterBits,
		CompressedByZstandard: h.incompatibleFeatures&qcow2FeatureCompression != 0,
		ExtendedL2:            h.extendedL2(),
	}, nil
}

func inspectQCOW2(head []byte, size int64) (Info, error) {
	h, err := checkedQCOW2(head, size)
	if err != nil {
		return Info{}, err
	}
	return Info{Format: FormatQCOW2, VirtualSize: roundUp(int64(h.size), sectorSize)}, nil
}

func checkedQCOW2(head []byte, size int64) (*qcow2Header, error) {
	h, err := parseQCOW2(head)
	if err != nil {
		return nil, err
	}
	for _, check := range []func() error{
		h.checkSelfContained,
		h.checkFeatures,
		h.checkGeometry,
		func() error { return h.checkCompression(head) },
		func() error { return h.checkExtensions(head) },
		func() error { return h.checkTables(size) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// parseQCOW2 reads the fixed part of the header and checks nothing but that it
// is there and of a known version.
func parseQCOW2(head []byte) (*qcow2Header, error) {
	if len(head) < qcow2HeaderLengthV2 {
		return nil, corrupt("the qcow2 header is cut off: the file is truncated")
	}
	be := binary.BigEndian
	h := &qcow2Header{
		version:               be.Uint32(head[4:]),
		backingFileOffset:     be.Uint64(head[8:]),
		backingFileSize:       be.Uint32(head[16:]),
		clusterBits:           be.Uint32(head[20:]),
		size:                  be.Uint64(head[24:]),
		cryptMethod:           be.Uint32(head[32:]),
		l1Size:                be.Uint32(head[36:]),
		l1TableOffset:         be.Uint64(head[40:]),
		refcountTableOffset:   be.Uint64(head[48:]),
		refcountTableClusters: be.Uint32(head[56:]),
		snapshots:             be.Uint32(head[60:]),
		refcountOrder:         4,
		headerLength:          qcow2HeaderLengthV2,
	}
	switch h.version {
	case 2:
		return h, nil
	case 3:
		if len(head) < qcow2HeaderLengthV3 {
			return nil, corrupt("the qcow2 header is cut off: the file is truncated")
		}
		h.incompatibleFeatures = be.Uint64(head[72:])
		h.refcountOrder = be.Uint32(head[96:])
		h.headerLength = be.Uint32(head[100:])
		return h, nil
	}
	return nil, notSupported("qcow version %d is not supported: convert the image with `qemu-img convert -O qcow2 SOURCE TARGET`", h.version)
}

// checkSelfContained refuses everything that makes a reader open another file
// or ask for a key.
func (h *qcow2Header) checkSelfContained() error {
	switch {
	case h.backingFileOffset != 0 || h.backingFileSize != 0:
		return refused("the qcow2 image has a backing file, so it is only a part of a disk: %s", flattenRemedy)
	case h.incompatibleFeatures&qcow2FeatureDataFile != 0:
		return refused("the qcow2 image keeps its data in an external file: %s", flattenRemedy)
	case h.cryptMethod != 0:
		return refused("the qcow2 image is encrypted: decrypt it with `qemu-img convert` first")
	case h.snapshots != 0:
		// A snapshot table can hold the state of a virtual machine's memory and
		// sizes of its own, none of which the head of a stream shows.
		return refused("the qcow2 image holds %d internal snapshots: %s", h.snapshots, flattenRemedy)
	}
	return nil
}

func (h *qcow2Header) checkFeatures() error {
	if h.incompatibleFeatures&qcow2FeatureCorrupt != 0 {
		return corrupt("the qcow2 image is marked as corrupt: repair it with `qemu-img check -r all`")
	}
	if unknown := h.incompatibleFeatures &^ qcow2FeaturesKnown; unknown != 0 {
		return refused("the qcow2 image needs unknown features (bits %#x): convert it with an older qemu-img or `-o compat=v3`", unknown)
	}
	return nil
}

func (h *qcow2Header) checkGeometry() error {
	switch {
	case h.clusterBits < qcow2MinClusterBits || h.clusterBits > qcow2MaxClusterBits:
		return corrupt("the qcow2 header asks for clusters of 2^%d bytes: only 2^9 to 2^21 exist", h.clusterBits)
	case h.extendedL2() && h.clusterBits < qcow2MinClusterBitsExtended:
		return corrupt("the qcow2 header asks for subclusters in clusters of 2^%d bytes: they need 2^14", h.clusterBits)
	case h.size == 0:
		return corrupt("the qcow2 image has a virtual size of 0 bytes")
	case h.size > MaxVirtualSize:
		return refused("the qcow2 image has a virtual size of %d bytes: at most %d are accepted", h.size, int64(MaxVirtualSize))
	case h.refcountOrder > qcow2MaxRefcountOrder:
		return corrupt("the qcow2 header asks for reference counts of 2^%d bits: at most 2^6 exist", h.refcountOrder)
	case h.version == 3 && (h.headerLength < qcow2HeaderLengthV3 || h.headerLength%8 != 0 || int64(h.headerLength) > h.clusterSize()):
		return corrupt("the qcow2 header gives itself a length of %d bytes", h.headerLength)
	}
	return nil
}

func (h *qcow2Header) extendedL2() bool   { return h.incompatibleFeatures&qcow2FeatureExtendedL2 != 0 }
func (h *qcow2Header) clusterSize() int64 { return 1 << h.clusterBits }

// checkCompression reads the field that exists only in headers long enough for
// it. The feature bit must be set exactly when the type is not zlib.
func (h *qcow2Header) checkCompression(head []byte) error {
	var compression byte
	if h.headerLength > qcow2CompressionTypeByte && len(head) > qcow2CompressionTypeByte {
		compression = head[qcow2CompressionTypeByte]
	}
	flagged := h.incompatibleFeatures&qcow2FeatureCompression != 0
	switch {
	case compression > qcow2MaxCompressionType:
		return refused("the qcow2 image is compressed by an unknown method (%d): %s", compression, flattenRemedy)
	case flagged != (compression != 0):
		return corrupt("the qcow2 header contradicts itself about the compression method")
	}
	return nil
}

// checkExtensions walks the list between the header and the end of the first
// cluster. Unknown extensions are harmless by definition of the format.
func (h *qcow2Header) checkExtensions(head []byte) error {
	limit := min(h.clusterSize(), int64(len(head)))
	for at := int64(h.headerLength); ; {
		if at+8 > limit {
			// The list may fill the cluster to its end without an end mark, but
			// not end where the file does.
			if at+8 > h.clusterSize() {
				return nil
			}
			return corrupt("the qcow2 header extensions are cut off: the file is truncated")
		}
		kind := binary.BigEndian.Uint32(head[at:])
		length := int64(binary.BigEndian.Uint32(head[at+4:]))
		switch kind {
		case qcow2ExtensionEnd:
			return nil
		case qcow2ExtensionBackingFormat:
			return refused("the qcow2 image names a backing file's format: %s", flattenRemedy)
		case qcow2ExtensionDataFile:
			return refused("the qcow2 image names an external data file: %s", flattenRemedy)
		case qcow2ExtensionEncryption:
			return refused("the qcow2 image is encrypted: decrypt it with `qemu-img convert` first")
		}
		// A length has 32 bits, so the sum stays far below overflow, and every
		// step moves on by at least the eight bytes of its head.
		at += 8 + roundUp(length, 8)
		if at > h.clusterSize() {
			return corrupt("a qcow2 header extension is %d bytes long and does not fit into the first cluster", length)
		}
	}
}

// checkTables compares the two root tables with the disk they describe, with
// QEMU's bounds and with the file they have to be in.
func (h *qcow2Header) checkTables(size int64) error {
	entries := h.clusterSize() / 8
	if h.extendedL2() {
		entries /= 2
	}
	// One entry of L1 covers one table of L2, which is one cluster long.
	covered := h.clusterSize() * entries
	needed := (int64(h.size) + covered - 1) / covered
	l1Bytes := int64(h.l1Size) * 8
	refcountBytes := int64(h.refcountTableClusters) << h.clusterBits
	switch {
	case l1Bytes > qcow2MaxL1Bytes:
		return corrupt("the qcow2 L1 table has %d entries: too many to be real", h.l1Size)
	case int64(h.l1Size) < needed:
		return corrupt("the qcow2 L1 table has %d entries: a disk of %d bytes needs %d", h.l1Size, h.size, needed)
	case h.refcountTableClusters == 0:
		return corrupt("the qcow2 image has no table of reference counts")
	case refcountBytes > qcow2MaxRefcountTableBytes:
		return corrupt("the qcow2 table of reference counts has %d clusters: too many to be real", h.refcountTableClusters)
	}
	if err := h.checkPlace("L1 table", h.l1TableOffset, l1Bytes, size); err != nil {
		return err
	}
	return h.checkPlace("table of reference counts", h.refcountTableOffset, refcountBytes, size)
}

// checkPlace verifies that a table begins at a cluster behind the header and
// ends within the file.
func (h *qcow2Header) checkPlace(name string, offset uint64, length, size int64) error {
	cluster := uint64(h.clusterSize())
	switch {
	case offset < cluster || offset%cluster != 0:
		return corrupt("the qcow2 %s begins at byte %d, which is no cluster behind the header", name, offset)
	case offset > 1<<62:
		return corrupt("the qcow2 %s begins at byte %d, far outside any file", name, offset)
	case size >= 0 && int64(offset)+length > size:
		return corrupt("the qcow2 %s ends at byte %d but the file has only %d: the file is truncated", name, int64(offset)+length, size)
	}
	return nil
}
