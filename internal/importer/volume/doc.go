// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package volume writes a guest's disk onto a volume: a block device, or a
// directory that gets the file disk.img.
//
// Bytes go past the page cache where the volume allows that: nothing dirty
// piles up in memory, the end of the copy is not one long wait for the disk, and
// on a small node it costs a fraction of the processor's time. A volume may have
// been somebody else's before, so what an image leaves out is made zero: by
// deallocation where the device can, else by writing, but only where something
// other than zeros is read.
package volume
