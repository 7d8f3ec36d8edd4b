// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fill writes an image onto a volume as the disk that a guest sees.
//
// However the image comes, its file passes once, in order, and everything is
// done beside that:
//
//	raw, iso         source → (decompression) → volume
//	qcow2            source → scattered to the places that its tables name → volume
//	anything else    source → window → qemu-img → volume
//
// The tables of a qcow2 image are read at random before the pass; that both saw
// the same bytes is proved during it, so that a checksum covers the tables, too.
// An image that has to be read at random but cannot be is staged: imported into
// the registry, and read from there.
//
// Every chunk of the file is made durable before the checkpoint that counts it.
// Memory depends neither on the length of the file nor on the size of the disk,
// except for a qcow2 image's map.
package fill
