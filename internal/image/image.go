// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image tells what a disk image is before any other program reads it.
//
// The inspector allocates nothing that the bytes ask for and fails closed: what
// it does not positively recognise as a self-contained image of a known format
// is refused. Images that reach outside themselves (a backing file, an external
// data file, a parent) would make QEMU open files of the importer's or of a
// node's, so they never get any further.
package image

import (
	"errors"
	"fmt"
	"io"
)

// Format of a disk image. The values are the names that QEMU uses, except ISO.
type Format string

const (
	// FormatQCOW2 is QEMU's copy-on-write format, version 2 or 3.
	FormatQCOW2 Format = "qcow2"
	// FormatRaw is the plain content of a disk.
	FormatRaw Format = "raw"
	// FormatISO is an optical disc: ISO 9660 or UDF.
	FormatISO Format = "iso"
	// FormatVMDK is VMware's format in a single file: monolithicSparse or
	// streamOptimized.
	FormatVMDK Format = "vmdk"
	// FormatVDI is VirtualBox's format.
	FormatVDI Format = "vdi"
	// FormatVPC is Microsoft's VHD, dynamic or fixed. Its virtual size is the
	// one its footer gives, so QEMU has to be told force_size_calc=current_size:
	// by itself it may take a rounded one.
	FormatVPC Format = "vpc"
	// FormatVHDX is Microsoft's VHDX.
	FormatVHDX Format = "vhdx"
)

// NeedsConversion tells whether a disk has to be unpacked by QEMU before a
// machine can have it. The other formats can be attached as they are.
func (f Format) NeedsConversion() bool {
	switch f {
	case FormatQCOW2, FormatRaw, FormatISO:
		return false
	}
	return true
}

const (
	// HeadSize is how many of an image's first bytes Inspect wants to see: with
	// them the metadata of every VHDX that Hyper-V and QEMU make, and the largest
	// qcow2 cluster, which is where header extensions end.
	HeadSize = 4 << 20
	// TailSize is how many of an image's last bytes InspectTail wants to see:
	// where footers are.
	TailSize = vmdkFooterLength
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
//
// What lies behind the head stays unseen, so the verdict on a format that needs
// conversion, and on raw, is a preliminary one: see InspectTail and InspectAt.
func Inspect(head []byte, size int64) (Info, error) {
	return inspect(&view{head: head, size: size})
}

// InspectTail is Inspect with the last TailSize bytes (or all if there are
// fewer), for streams that have come to their end. Without them a fixed VHD
// looks like a raw disk with one sector too many.
func InspectTail(head, tail []byte, size int64) (Info, error) {
	if size < int64(len(tail)) {
		return Info{}, corrupt("the image ends at byte %d: the file is truncated", size)
	}
	return inspect(&view{head: head, tail: tail, size: size})
}

// InspectAt is Inspect for files of which any part can be read. It also compares
// every place that the tables name with the file. Nothing may be given to QEMU
// that this has not accepted. An error that is no *Error is r's.
func InspectAt(r io.ReaderAt, size int64) (Info, error) {
	v, err := viewOf(r, size)
	if err != nil {
		return Info{}, err
	}
	return inspect(v)
}

// viewOf is a view of a file of which any part can be read.
func viewOf(r io.ReaderAt, size int64) (*view, error) {
	if size < 0 {
		return nil, corrupt("the length of the image is not known")
	}
	v := &view{head: make([]byte, min(size, HeadSize)), all: r, size: size}
	if err := readFull(r, v.head, 0); err != nil {
		return nil, fmt.Errorf("read the beginning of the image: %w", err)
	}
	return v, nil
}

func inspect(v *view) (Info, error) {
	if len(v.head) > HeadSize {
		v.head = v.head[:HeadSize]
	}
	switch {
	case v.size == 0 || (v.size < 0 && len(v.head) == 0):
		return Info{}, notSupported("the file is empty")
	case v.size > 0 && int64(len(v.head)) > v.size:
		v.head = v.head[:v.size]
	}
	// The order matters: whatever QEMU would take for one of its formats must
	// never pass as a raw disk or an ISO image with something in front.
	for _, format := range formats {
		if format.is(v.head) {
			info, err := format.inspect(v)
			if errors.Is(err, errUnseen) {
				err = refused("the first %d bytes of the image are too few to tell what it is: %s", len(v.head), convertRemedy)
			}
			return info, err
		}
	}
	if err := refuseForeign(v.head); err != nil {
		return Info{}, err
	}
	if isISO(v.head) {
		return inspectISO(v.size)
	}
	if info, err := inspectVHDFooter(v); info != (Info{}) || err != nil {
		return info, err
	}
	return inspectRaw(v.head, v.size)
}

// formats are those with a mark at the beginning.
var formats = []struct {
	is      func(head []byte) bool
	inspect func(v *view) (Info, error)
}{
	{isQCOW2, func(v *view) (Info, error) { return inspectQCOW2(v.head, v.size) }},
	{isVMDK, inspectVMDK},
	{isVHD, inspectVHD},
	{isVHDX, inspectVHDX},
	{isVDI, inspectVDI},
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
