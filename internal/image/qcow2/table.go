// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"
)

const (
	entrySize = 8
	// offsetMask are the bits of an entry that hold the offset of a cluster.
	offsetMask = 0x00ff_ffff_ffff_fe00
	flagCopied = 1 << 63

	// maxTables bounds the requests that reading the tables takes. It is enough
	// for the largest disk in clusters of 64 KiB.
	maxTables = 1 << 18
	// readAhead bounds the memory for tables that are being read, and
	// parallelReads how many are requested at the same time: over a network the
	// time is in the round trips.
	readAhead     = 4 << 20
	parallelReads = 16
)

// table is a table of the second level: its offset in the file and which part
// of the disk it maps.
type table struct {
	offset int64
	index  uint64
}

// tableEntries is how many clusters one table maps.
func (i *Image) tableEntries() uint64 { return uint64(i.ClusterSize() / entrySize) }

// readL1 lists the tables of the second level, in the order of the disk. Entries
// behind the end of the disk mean nothing.
func (i *Image) readL1(r io.ReaderAt) ([]table, error) {
	used := (i.clusters() + i.tableEntries() - 1) / i.tableEntries()
	l1 := make([]byte, used*entrySize)
	if err := readFull(r, l1, i.header.L1Offset); err != nil {
		return nil, err
	}
	var tables []table
	for index := range used {
		entry := binary.BigEndian.Uint64(l1[index*entrySize:])
		if entry == 0 {
			continue
		}
		offset, err := i.tableOffset(index, entry)
		if err != nil {
			return nil, err
		}
		if len(tables) == maxTables {
			return nil, fmt.Errorf("%w: it has more than %d tables", ErrUnsupported, maxTables)
		}
		tables = append(tables, table{offset: offset, index: index})
	}
	return tables, nil
}

func (i *Image) tableOffset(index, entry uint64) (int64, error) {
	offset := int64(entry & offsetMask)
	switch {
	case entry&^(offsetMask|flagCopied) != 0:
		return 0, corrupt("entry %d of the qcow2 L1 table has reserved bits set (%#x)", index, entry)
	case offset == 0 || offset%i.ClusterSize() != 0:
		return 0, corrupt("entry %d of the qcow2 L1 table points to byte %d, which is no cluster behind the header", index, offset)
	case offset > i.size-i.ClusterSize():
		return 0, corrupt("entry %d of the qcow2 L1 table points to byte %d but the file has only %d: the file is truncated", index, offset, i.size)
	}
	return offset, nil
}

// readL2 reads the tables, several at a time, and collects what they map.
func (i *Image) readL2(r io.ReaderAt, tables []table) error {
	batch := int(min(parallelReads, readAhead/i.ClusterSize()))
	buffer := make([]byte, int64(batch)*i.ClusterSize())
	collector := &collector{image: i}
	for chunk := range slices.Chunk(tables, batch) {
		var group errgroup.Group
		for n, t := range chunk {
			group.Go(func() error { return readFull(r, i.slot(buffer, n), t.offset) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for n, t := range chunk {
			if err := collector.addTable(t, i.slot(buffer, n)); err != nil {
				return err
			}
		}
	}
	i.runs = collector.runs
	return nil
}

// slot is the n-th cluster of a buffer.
func (i *Image) slot(buffer []byte, n int) []byte {
	return buffer[int64(n)*i.ClusterSize():][:i.ClusterSize()]
}
