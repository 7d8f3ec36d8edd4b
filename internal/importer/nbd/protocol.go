// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Facts of the protocol: doc/proto.md of the NetworkBlockDevice project.
const (
	magicServer      = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption      = 0x49484156454f5054 // "IHAVEOPT"
	magicOptionReply = 0x0003e889045565a9
	magicRequest     = 0x25609513
	magicReply       = 0x67446698

	handshakeFixedNewstyle = 1 << 0
	handshakeNoZeroes      = 1 << 1

	// What the export offers: it is read-only, and all connections see the same.
	exportHasFlags  = 1 << 0
	exportReadOnly  = 1 << 1
	exportMultiConn = 1 << 8
	exportFlags     = exportHasFlags | exportReadOnly | exportMultiConn

	infoExport    = 0
	infoBlockSize = 3
)

// Options of the handshake, and their replies.
const (
	optionExportName = 1
	optionAbort      = 2
	optionList       = 3
	optionInfo       = 6
	optionGo         = 7

	replyAck          = 1
	replyServer       = 2
	replyInfo         = 3
	replyErrorUnknown = 1<<31 + 6
	replyErrorInvalid = 1<<31 + 3
	replyUnsupported  = 1<<31 + 1
)

// Commands and errors of the transmission.
const (
	commandRead       = 0
	commandWrite      = 1
	commandDisconnect = 2

	errorPermission = 1
	errorIO         = 5
	errorInvalid    = 22
)

const (
	// maxOption bounds what an option may hold: a name has at most 4096 bytes.
	maxOption = 8 << 10
	// maxOptions is more than any client asks for in one handshake.
	maxOptions = 64
	// maxRead is the longest read that is answered, as clients may rely on.
	maxRead = 32 << 20
	// preferredRead is the unit that suits whoever does not care.
	preferredRead = 64 << 10
)

// errProtocol ends a connection: after it nothing makes sense any more.
var errProtocol = errors.New("the client does not speak the protocol")

// option is a step of the handshake.
type option struct {
	code uint32
	data []byte
}

func readOption(r io.Reader) (option, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return option{}, err
	}
	o := option{code: binary.BigEndian.Uint32(head[8:])}
	length := binary.BigEndian.Uint32(head[12:])
	switch {
	case binary.BigEndian.Uint64(head[:]) != magicOption:
		return option{}, fmt.Errorf("%w: an option begins with other bytes", errProtocol)
	case length > maxOption:
		return option{}, fmt.Errorf("%w: an option has %d bytes", errProtocol, length)
	}
	o.data = make([]byte, length)
	_, err := io.ReadFull(r, o.data)
	return o, err
}

// parseInfo reads what INFO and GO ask for: an export's name, and what else the
// client wants to know about it.
func parseInfo(data []byte) (name string, wanted []uint16, err error) {
	malformed := fmt.Errorf("%w: a request for information is cut off", errProtocol)
	if len(data) < 4 {
		return "", nil, malformed
	}
	length := int64(binary.BigEndian.Uint32(data))
	data = data[4:]
	if length+2 > int64(len(data)) {
		return "", nil, malformed
	}
	name, data = string(data[:length]), data[length:]
	count := int(binary.BigEndian.Uint16(data))
	data = data[2:]
	if len(data) != 2*count {
		return "", nil, malformed
	}
	for ; len(data) > 0; data = data[2:] {
		wanted = append(wanted, binary.BigEndian.Uint16(data))
	}
	return name, wanted, nil
}

// request is one command.
type request struct {
	flags   uint16
	command uint16
	// cookie tells the client which request a reply belongs to.
	cookie uint64
	offset uint64
	length uint32
}

const requestSize = 28

func parseRequest(head [requestSize]byte) (request, error) {
	be := binary.BigEndian
	if be.Uint32(head[:]) != magicRequest {
		return request{}, fmt.Errorf("%w: a request begins with other bytes", errProtocol)
	}
	return request{
		flags: be.Uint16(head[4:]), command: be.Uint16(head[6:]), cookie: be.Uint64(head[8:]),
		offset: be.Uint64(head[16:]), length: be.Uint32(head[24:]),
	}, nil
}

// check returns the error that a request is answered with, 0 for a read that is
// inside an export of the given size.
func (r request) check(size int64) uint32 {
	switch {
	case r.command != commandRead:
		return errorPermission
	case r.flags != 0, r.length == 0, r.length > maxRead:
		return errorInvalid
	case r.offset > uint64(size), uint64(r.length) > uint64(size)-r.offset:
		return errorInvalid
	}
	return 0
}

func appendReply(b []byte, code uint32, cookie uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, magicReply)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, cookie)
}
