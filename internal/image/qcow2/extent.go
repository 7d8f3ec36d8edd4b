// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// Kind tells how an extent's bytes are in the file.
type Kind int

const (
	// Data is in the file as the guest sees it.
	Data Kind = iota + 1
	// Zero is not in the file and reads as zeros.
	Zero
	// Compressed is one cluster for Decompress.
	Compressed
)

// Extent maps a part of the disk to a part of the file.
type Extent struct {
	// HostOffset and HostLength are the place in the file, both 0 for zeros. The
	// end of a compressed cluster is known to a sector only, so it may reach
	// into the next one by less than 512 bytes.
	HostOffset, HostLength int64
	// GuestOffset and Length are the place on the disk.
	GuestOffset, Length int64
	Kind                Kind
}

const (
	flagZero       = 1 << 0
	flagCompressed = 1 << 62
	sectorSize     = 512

	// maxRuns bounds the memory for the map: 64 MiB. A disk of 256 GiB in
	// clusters of 64 KiB fits even if no two of them are neighbours.
	maxRuns = 4 << 20
	// A run keeps its length in the bits that the number of a cluster leaves:
	// the largest disk has 2^37 of the smallest clusters.
	clusterNumberBits = 37
	maxRunLength      = 1<<(64-clusterNumberBits) - 1
)

// run is an extent packed into 16 bytes: the entry of its first cluster as the
// table has it, and the first cluster's number with the count of clusters.
type run struct {
	entry uint64
	place uint64
}

func newRun(entry, cluster uint64) run {
	return run{entry: entry, place: cluster | 1<<clusterNumberBits}
}

func (r run) cluster() uint64 { return r.place & (1<<clusterNumberBits - 1) }
func (r run) count() uint64   { return r.place >> clusterNumberBits }
func (r run) lengthen() run   { return run{entry: r.entry, place: r.place + 1<<clusterNumberBits} }

func (r run) kind() Kind {
	switch {
	case r.entry&flagCompressed != 0:
		return Compressed
	case r.entry&flagZero != 0:
		return Zero
	}
	return Data
}

// collector puts together runs from entries that come in the disk's order.
type collector struct {
	image *Image
	runs  []run
}

func (c *collector) addTable(t table, content []byte) error {
	first := t.index * c.image.tableEntries()
	for n := range min(c.image.tableEntries(), c.image.clusters()-first) {
		entry := binary.BigEndian.Uint64(content[n*entrySize:])
		if entry == 0 {
			continue
		}
		if err := c.add(first+n, entry); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) add(cluster, entry uint64) error {
	checked, err := c.image.checkEntry(cluster, entry)
	if err != nil || checked == 0 {
		return err
	}
	if last := len(c.runs) - 1; last >= 0 && c.image.continues(c.runs[last], cluster, checked) {
		c.runs[last] = c.runs[last].lengthen()
		return nil
	}
	if len(c.runs) == maxRuns {
		return fmt.Errorf("%w: it is scattered into more than %d pieces", ErrUnsupported, maxRuns)
	}
	c.runs = append(c.runs, newRun(checked, cluster))
	return nil
}

// continues tells whether a cluster is the run's next one, on the disk as in
// the file.
func (i *Image) continues(r run, cluster, entry uint64) bool {
	if r.cluster()+r.count() != cluster || r.count() == maxRunLength {
		return false
	}
	switch r.kind() {
	case Zero:
		return entry == r.entry
	case Data:
		return entry == r.entry+r.count()<<i.header.ClusterBits
	}
	return false
}

// checkEntry returns what of an entry counts: the kind and the place in the
// file. It is 0 for an entry that allocates nothing.
func (i *Image) checkEntry(cluster, entry uint64) (uint64, error) {
	if entry&flagCompressed != 0 {
		return i.checkCompressed(cluster, entry)
	}
	offset := int64(entry & offsetMask)
	if entry&^(offsetMask|flagCopied|flagZero) != 0 || entry&flagZero != 0 && i.header.Version < 3 {
		return 0, corrupt("the qcow2 entry of cluster %d has reserved bits set (%#x)", cluster, entry)
	}
	if offset != 0 {
		if err := i.checkData(cluster, offset); err != nil {
			return 0, err
		}
	}
	if entry&flagZero != 0 {
		// A cluster that is set aside in the file counts as much as none.
		return flagZero, nil
	}
	return uint64(offset), nil
}

// checkData verifies the place of a cluster. The last one of the disk may be cut
// off where the disk ends.
func (i *Image) checkData(cluster uint64, offset int64) error {
	needed := i.guestLength(cluster, 1)
	switch {
	case offset%i.ClusterSize() != 0:
		return corrupt("the qcow2 entry of cluster %d points to byte %d, where no cluster begins", cluster, offset)
	case offset > i.size-needed:
		return corrupt("the qcow2 entry of cluster %d points to byte %d but the file has only %d: the file is truncated", cluster, offset, i.size)
	}
	return nil
}

func (i *Image) checkCompressed(cluster, entry uint64) (uint64, error) {
	offset, _ := i.compressedPlace(entry)
	switch {
	case entry&flagCopied != 0:
		return 0, corrupt("the qcow2 entry of cluster %d has reserved bits set (%#x)", cluster, entry)
	case offset < i.ClusterSize():
		return 0, corrupt("the qcow2 entry of cluster %d points into the header", cluster)
	case offset >= i.size:
		return 0, corrupt("the qcow2 entry of cluster %d points to byte %d but the file has only %d: the file is truncated", cluster, offset, i.size)
	}
	return entry, nil
}

// compressedPlace is where a compressed cluster begins and how long it is at
// most: the entry counts the sectors that it touches behind its first one.
func (i *Image) compressedPlace(entry uint64) (offset, length int64) {
	sizeBits := i.header.ClusterBits - 8
	offsetBits := 62 - sizeBits
	offset = int64(entry & (1<<offsetBits - 1))
	sectors := int64(entry >> offsetBits & (1<<sizeBits - 1))
	end := (offset/sectorSize + sectors + 1) * sectorSize
	// QEMU takes the bytes behind the end of the file for zeros.
	return offset, min(end, i.size) - offset
}

// guestLength is the length of clusters without what is behind the disk's end.
func (i *Image) guestLength(cluster, count uint64) int64 {
	begin := int64(cluster) << i.header.ClusterBits
	return min(int64(count)<<i.header.ClusterBits, i.VirtualSize()-begin)
}

func (i *Image) extent(r run) Extent {
	e := Extent{
		GuestOffset: int64(r.cluster()) << i.header.ClusterBits,
		Length:      i.guestLength(r.cluster(), r.count()),
		Kind:        r.kind(),
	}
	switch e.Kind {
	case Data:
		e.HostOffset, e.HostLength = int64(r.entry), e.Length
	case Compressed:
		e.HostOffset, e.HostLength = i.compressedPlace(r.entry)
	}
	return e
}

// compare orders by the place in the file and then, among zeros, by the place on
// the disk.
func (i *Image) compare(a, b run) int {
	return cmp.Or(cmp.Compare(i.hostOffset(a), i.hostOffset(b)), cmp.Compare(a.cluster(), b.cluster()))
}

func (i *Image) hostOffset(r run) int64 {
	switch r.kind() {
	case Data:
		return int64(r.entry)
	case Compressed:
		offset, _ := i.compressedPlace(r.entry)
		return offset
	}
	return 0
}
