// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"fmt"
	"math/bits"

	"github.com/deckhouse/virtualization/internal/image"
)

const (
	// DefaultClusterSize is what QEMU takes when nothing is said.
	DefaultClusterSize = 64 << 10
	minClusterSize     = 512
	maxClusterSize     = 2 << 20

	// maxClusters bounds the memory for an allocation to 64 MiB, and
	// comfortableClusters is where larger clusters begin to pay: 2 MiB.
	maxClusters         = 1 << 29
	comfortableClusters = 1 << 24
)

// ClusterSizeFor returns a cluster size that keeps the tables of a disk small.
func ClusterSizeFor(virtualSize int64) int64 {
	size := int64(DefaultClusterSize)
	for size < maxClusterSize && virtualSize/size > comfortableClusters {
		size *= 2
	}
	return size
}

// Allocation tells which clusters of a disk an image has to hold: one bit each.
type Allocation struct {
	virtualSize int64
	clusterSize int64
	words       []uint64
}

// NewAllocation makes one in which nothing is marked. A cluster size is a power
// of two from 512 to 2 MiB.
func NewAllocation(virtualSize, clusterSize int64) (*Allocation, error) {
	if clusterSize < minClusterSize || clusterSize > maxClusterSize || bits.OnesCount64(uint64(clusterSize)) != 1 {
		return nil, fmt.Errorf("a qcow2 image cannot have clusters of %d bytes: take a power of two from %d to %d", clusterSize, minClusterSize, maxClusterSize)
	}
	if virtualSize <= 0 || virtualSize > image.MaxVirtualSize {
		return nil, fmt.Errorf("a qcow2 image of a disk of %d bytes cannot be made: it has to have at least 1 and at most %d", virtualSize, int64(image.MaxVirtualSize))
	}
	clusters := (virtualSize + clusterSize - 1) / clusterSize
	if clusters > maxClusters {
		return nil, fmt.Errorf("a disk of %d bytes has too many clusters of %d bytes: take larger ones", virtualSize, clusterSize)
	}
	return &Allocation{virtualSize: virtualSize, clusterSize: clusterSize, words: make([]uint64, (clusters+63)/64)}, nil
}

// Mark adds a part of the disk. What is outside of the disk is ignored.
func (a *Allocation) Mark(offset, length int64) {
	if length <= 0 || offset >= a.virtualSize || offset < 0 {
		return
	}
	last := offset + min(length, a.virtualSize-offset) - 1
	for cluster := offset / a.clusterSize; cluster <= last/a.clusterSize; cluster++ {
		a.words[cluster/64] |= 1 << (cluster % 64)
	}
}

// Bytes is how much of the disk is marked, in whole clusters.
func (a *Allocation) Bytes() int64 { return a.count(0, int64(len(a.words))) * a.clusterSize }

// count counts the clusters marked in a part of the words.
func (a *Allocation) count(from, to int64) int64 {
	total := 0
	for _, word := range a.words[from:min(to, int64(len(a.words)))] {
		total += bits.OnesCount64(word)
	}
	return int64(total)
}

func (a *Allocation) marked(cluster int64) bool {
	return cluster/64 < int64(len(a.words)) && a.words[cluster/64]&(1<<(cluster%64)) != 0
}

// find returns the n-th marked cluster at or behind the one given, which begins
// a word. There has to be one.
func (a *Allocation) find(from, n int64) int64 {
	at := from / 64
	for ; ; at++ {
		count := int64(bits.OnesCount64(a.words[at]))
		if n < count {
			break
		}
		n -= count
	}
	word := a.words[at]
	for ; n > 0; n-- {
		word &= word - 1
	}
	return at*64 + int64(bits.TrailingZeros64(word))
}
