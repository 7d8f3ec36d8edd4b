// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sort"
)

const (
	headerLength     = 112
	refcountOrder    = 4
	refcountSize     = 2
	maxRefcountBytes = 8 << 20
	maxL1Bytes       = 32 << 20
)

// Writer makes an image of version 3 with all tables before the data, so that
// its length is known and its reader can begin before the data is read. Nothing
// in it depends on the data: the file can be begun anew at any byte.
type Writer struct {
	allocation *Allocation
	tables     []plannedTable

	// The parts of the file in their order, in clusters. The header is the
	// first one.
	refcountTable, refcountBlocks, l1, l2, data, total int64
}

// plannedTable is a table of the second level: which one it is, and how many
// data clusters are before its own ones.
type plannedTable struct{ index, first int64 }

// NewWriter plans an image. The allocation must not change any more.
func NewWriter(allocation *Allocation) (*Writer, error) {
	w := &Writer{allocation: allocation}
	words := w.entries() / 64
	var data int64
	for index := range ceil(int64(len(allocation.words)), words) {
		if count := allocation.count(index*words, (index+1)*words); count > 0 {
			w.tables = append(w.tables, plannedTable{index: index, first: data})
			data += count
		}
	}
	l1 := ceil(w.l1Entries()*entrySize, w.cluster())
	blocks := w.planRefcounts(1 + l1 + int64(len(w.tables)) + data)
	w.refcountTable = 1
	w.refcountBlocks = w.refcountTable + w.refcountTableClusters(blocks)
	w.l1 = w.refcountBlocks + blocks
	w.l2 = w.l1 + l1
	w.data = w.l2 + int64(len(w.tables))
	w.total = w.data + data
	if w.l1Entries()*entrySize > maxL1Bytes || (w.refcountBlocks-w.refcountTable)*w.cluster() > maxRefcountBytes {
		return nil, fmt.Errorf("the tables of a disk of %d bytes are too large with clusters of %d bytes: take larger ones", allocation.virtualSize, w.cluster())
	}
	return w, nil
}

// planRefcounts returns how many blocks of reference counts the image needs:
// they count themselves, too.
func (w *Writer) planRefcounts(clusters int64) int64 {
	for blocks := int64(1); ; {
		needed := ceil(clusters+blocks+w.refcountTableClusters(blocks), w.cluster()/refcountSize)
		if needed <= blocks {
			return blocks
		}
		blocks = needed
	}
}

func (w *Writer) refcountTableClusters(blocks int64) int64 {
	return ceil(blocks*entrySize, w.cluster())
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

func (w *Writer) cluster() int64   { return w.allocation.clusterSize }
func (w *Writer) entries() int64   { return w.cluster() / entrySize }
func (w *Writer) l1Entries() int64 { return ceil(w.allocation.virtualSize, w.cluster()*w.entries()) }

// Size is the exact length of the file.
func (w *Writer) Size() int64 { return w.total * w.cluster() }

// VirtualSize is the size of the disk: whole sectors.
func (w *Writer) VirtualSize() int64 { return ceil(w.allocation.virtualSize, sectorSize) * sectorSize }

// fillMetadata makes one of the clusters before the data.
func (w *Writer) fillMetadata(p []byte, cluster int64) {
	clear(p)
	be := binary.BigEndian
	switch {
	case cluster < w.refcountTable:
		w.fillHeader(p)
	case cluster < w.refcountBlocks:
		w.fillEntries(p, 0, func(n int64) int64 {
			if block := w.refcountBlocks + (cluster-w.refcountTable)*w.entries() + n; block < w.l1 {
				return block * w.cluster()
			}
			return 0
		})
	case cluster < w.l1:
		counts := w.cluster() / refcountSize
		for n := range min(counts, w.total-(cluster-w.refcountBlocks)*counts) {
			be.PutUint16(p[n*refcountSize:], 1)
		}
	case cluster < w.l2:
		w.fillEntries(p, flagCopied, func(n int64) int64 { return w.tableOffset((cluster-w.l1)*w.entries() + n) })
	default:
		w.fillTable(p, w.tables[cluster-w.l2])
	}
}

// fillEntries makes a table of offsets. In the tables of both levels QEMU wants
// a flag that nothing else uses what an entry points to.
func (w *Writer) fillEntries(p []byte, flag uint64, offset func(n int64) int64) {
	for n := range w.entries() {
		if at := offset(n); at != 0 {
			binary.BigEndian.PutUint64(p[n*entrySize:], uint64(at)|flag)
		}
	}
}

func (w *Writer) fillHeader(p []byte) {
	be := binary.BigEndian
	copy(p, "QFI\xfb")
	be.PutUint32(p[4:], 3)
	be.PutUint32(p[20:], uint32(bits.TrailingZeros64(uint64(w.cluster()))))
	be.PutUint64(p[24:], uint64(w.VirtualSize()))
	be.PutUint32(p[36:], uint32(w.l1Entries()))
	be.PutUint64(p[40:], uint64(w.l1*w.cluster()))
	be.PutUint64(p[48:], uint64(w.refcountTable*w.cluster()))
	be.PutUint32(p[56:], uint32(w.refcountBlocks-w.refcountTable))
	be.PutUint32(p[96:], refcountOrder)
	be.PutUint32(p[100:], headerLength)
}

// tableOffset is the entry of the first level for a table of the second.
func (w *Writer) tableOffset(index int64) int64 {
	n := sort.Search(len(w.tables), func(n int) bool { return w.tables[n].index >= index })
	if n == len(w.tables) || w.tables[n].index != index {
		return 0
	}
	return (w.l2 + int64(n)) * w.cluster()
}

func (w *Writer) fillTable(p []byte, table plannedTable) {
	next := w.data + table.first
	w.fillEntries(p, flagCopied, func(n int64) int64 {
		if !w.allocation.marked(table.index*w.entries() + n) {
			return 0
		}
		next++
		return (next - 1) * w.cluster()
	})
}

// guestCluster is the place on the disk of a data cluster.
func (w *Writer) guestCluster(data int64) int64 {
	n := sort.Search(len(w.tables), func(n int) bool { return w.tables[n].first > data }) - 1
	return w.allocation.find(w.tables[n].index*w.entries(), data-w.tables[n].first)
}
