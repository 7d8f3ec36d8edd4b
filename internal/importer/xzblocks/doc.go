// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package xzblocks unpacks xz files block by block, several blocks at once. What
// is in a block is unpacked by github.com/therootcompany/xz, which knows one
// processor only; this package finds out where blocks begin and end, and checks
// that the index at the end tells the same.
//
// Blocks can be told apart without unpacking them if their headers have both
// sizes, as those of `xz -T0` do, the default since xz 5.6. Any other file is
// unpacked in one go, as before.
//
// The format is that of https://tukaani.org/xz/xz-file-format.txt, version 1.2.1;
// the numbers of sections in this package are that document's.
package xzblocks
