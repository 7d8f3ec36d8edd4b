// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"cmp"
	"slices"
)

// place is a part of the file with a use.
type place struct {
	offset, end int64
	use         string
}

// metadata lists the places that no data may be in, sorted.
func (i *Image) metadata(tables []table) []place {
	places := make([]place, 0, len(tables)+3)
	places = append(places,
		place{0, i.ClusterSize(), "the header"},
		place{i.header.L1Offset, i.header.L1Offset + int64(i.header.L1Entries)*entrySize, "the L1 table"},
		place{i.header.RefcountTableOffset, i.header.RefcountTableOffset + i.header.RefcountTableLength, "the table of reference counts"},
	)
	for _, t := range tables {
		places = append(places, place{t.offset, t.offset + i.ClusterSize(), "an L2 table"})
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	return places
}

// checkOverlaps verifies that no two things are in the same place of the file,
// which is how a small file could claim to hold a large disk, and what makes one
// pass over the file enough. Both lists are sorted.
func (i *Image) checkOverlaps(tables []table) error {
	places := i.metadata(tables)
	last := places[0]
	for _, next := range places[1:] {
		if next.offset < last.end {
			return overlap(last, next)
		}
		last = next
	}
	last = place{}
	for _, r := range i.runs {
		if r.kind() == Zero {
			continue
		}
		e := i.extent(r)
		next := place{e.HostOffset, e.HostOffset + e.HostLength, "a cluster of the disk"}
		for len(places) > 0 && places[0].end <= next.offset {
			places = places[1:]
		}
		if len(places) > 0 && places[0].offset < next.end {
			return overlap(places[0], next)
		}
		if err := i.checkNeighbours(last, next, r.kind()); err != nil {
			return err
		}
		last = next
	}
	return nil
}

// checkNeighbours allows a compressed cluster to begin in the last sector of
// another one.
func (i *Image) checkNeighbours(last, next place, kind Kind) error {
	switch {
	case next.offset >= last.end:
		return nil
	case kind == Compressed && next.offset > last.offset && next.offset > last.end-sectorSize:
		return nil
	}
	return overlap(last, next)
}

func overlap(a, b place) error {
	return corrupt("the qcow2 image has %s and %s in the same place, at byte %d of the file", a.use, b.use, max(a.offset, b.offset))
}
