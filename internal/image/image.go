// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image tells what a disk image is before any other program reads it.
//
// The inspector looks at the first bytes only, allocates nothing that the
// bytes ask for and fails closed: what it does not positively recognise as a
// self-contained qcow2, raw or ISO image is refused. Images that reach outside
// themselves (a backing file, an external data file) would make QEMU open
// files of the importer's or of a node's, so they never get any further.
package image

import "fmt"

// Format of a disk image. The values are the names that QEMU uses, except ISO.
type Format string

const (
	// FormatQCOW2 is QEMU's copy-on-write format, version 2 or 3.
	FormatQCOW2 Format = "qcow2"
	// FormatRaw is the plain content of a disk.
	FormatRaw Format = "raw"
	// FormatISO is an optical disc: ISO 9660 or UDF.
	FormatISO Format = "iso"
)

const (
	// HeadSize is how many of an image's first bytes Inspect wants to see: the
	// largest qcow2 cluster, which is where header extensions end.
	HeadSize = 2 << 20
	// MaxVirtualSize bounds the disk a guest sees. No storage here offers more,
	// and it keeps all arithmetic on sizes far from overflow.
	MaxVirtualSize = 64 << 40
	// sectorSize is the unit in which every guest sees a disk.
	sectorSize = 512
)

// Info is what the inspector found out.
type Info struct {
	Format Format
	// VirtualSize is the size of the disk in bytes as a guest sees it.
	VirtualSize int64
	// CDROM is true for images that a guest can only use as an optical disc.
	CDROM bool
}

// Kind classifies why an image is not accepted.
type Kind int

const (
	// NotSupported: no disk image, or one of a format that is not accepted.
	NotSupported Kind = iota + 1
	// Refused: a known format that asks for something unsafe.
	Refused
	// Corrupt: a known format whose header contradicts itself or the file.
	Corrupt
)

// Error says why an image is not accepted; the message names the remedy.
type Error struct {
	Kind    Kind
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

func notSupported(format string, args ...any) error {
	return &Error{Kind: NotSupported, Message: fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) error {
	return &Error{Kind: Refused, Message: fmt.Sprintf(format, args...)}
}

func corrupt(format string, args ...any) error {
	return &Error{Kind: Corrupt, Message: fmt.Sprintf(format, args...)}
}

// UnknownSize is passed to Inspect while the length of a stream is not known.
const UnknownSize = -1

// Inspect decides by an image's first bytes (HeadSize of them, or all if there
// are fewer) and its length whether it is accepted, and as what. With
// UnknownSize nothing is compared with the length and a raw or ISO image has a
// virtual size of zero: inspect again once the length is known.
func Inspect(head []byte, size int64) (Info, error) {
	if len(head) > HeadSize {
		head = head[:HeadSize]
	}
	switch {
	case size == 0 || (size < 0 && len(head) == 0):
		return Info{}, notSupported("the file is empty")
	case size > 0 && int64(len(head)) > size:
		head = head[:size]
	}
	// The order matters: whatever QEMU would take for one of its formats must
	// never pass as a raw disk or an ISO image with something in front.
	if isQCOW2(head) {
		return inspectQCOW2(head, size)
	}
	if err := refuseForeign(head); err != nil {
		return Info{}, err
	}
	if isISO(head) {
		return inspectISO(size)
	}
	return inspectRaw(head, size)
}

// plainInfo describes an image whose file is the disk itself.
func plainInfo(format Format, size int64, cdrom bool) (Info, error) {
	if size > MaxVirtualSize {
		return Info{}, refused("the image is %d bytes long: at most %d are accepted", size, int64(MaxVirtualSize))
	}
	info := Info{Format: format, CDROM: cdrom}
	if size > 0 {
		info.VirtualSize = roundUp(size, sectorSize)
	}
	return info, nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
