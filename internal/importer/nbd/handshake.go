// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// errGoodbye ends a connection that the client does not want any more.
var errGoodbye = errors.New("the client ended the handshake")

// handshake agrees with a client on the export.
type handshake struct {
	server *Server
	rw     io.ReadWriter
	// noZeroes leaves out padding that very old clients want.
	noZeroes bool
}

// run returns nil when the client may begin to read.
func (h *handshake) run() error {
	if err := h.greet(); err != nil {
		return err
	}
	for range maxOptions {
		o, err := readOption(h.rw)
		if err != nil {
			return err
		}
		done, err := h.answer(o)
		if err != nil || done {
			return err
		}
	}
	return fmt.Errorf("%w: the handshake has no end", errProtocol)
}

func (h *handshake) greet() error {
	greeting := binary.BigEndian.AppendUint64(nil, magicServer)
	greeting = binary.BigEndian.AppendUint64(greeting, magicOption)
	greeting = binary.BigEndian.AppendUint16(greeting, handshakeFixedNewstyle|handshakeNoZeroes)
	if _, err := h.rw.Write(greeting); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(h.rw, answer[:]); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(answer[:])
	if flags&^(handshakeFixedNewstyle|handshakeNoZeroes) != 0 {
		return fmt.Errorf("%w: the client wants %#x", errProtocol, flags)
	}
	h.noZeroes = flags&handshakeNoZeroes != 0
	return nil
}

// answer replies to one option; it is done when the transmission begins.
func (h *handshake) answer(o option) (done bool, err error) {
	switch o.code {
	case optionExportName:
		return true, h.exportName(string(o.data))
	case optionAbort:
		// The client need not wait for the reply.
		_ = h.reply(o, replyAck, nil)
		return false, errGoodbye
	case optionList:
		return false, h.list(o)
	case optionInfo, optionGo:
		return h.info(o)
	}
	return false, h.reply(o, replyUnsupported, nil)
}

// exportName is the old way to begin, which knows no errors.
func (h *handshake) exportName(name string) error {
	if name != h.server.Export {
		return fmt.Errorf("%w: there is no export of that name", errProtocol)
	}
	answer := h.server.describe(nil)
	if !h.noZeroes {
		answer = append(answer, make([]byte, 124)...)
	}
	_, err := h.rw.Write(answer)
	return err
}

func (h *handshake) list(o option) error {
	if len(o.data) != 0 {
		return h.reply(o, replyErrorInvalid, nil)
	}
	entry := binary.BigEndian.AppendUint32(nil, uint32(len(h.server.Export)))
	if err := h.reply(o, replyServer, append(entry, h.server.Export...)); err != nil {
		return err
	}
	return h.reply(o, replyAck, nil)
}

func (h *handshake) info(o option) (done bool, err error) {
	name, wanted, err := parseInfo(o.data)
	switch {
	case err != nil:
		return false, h.reply(o, replyErrorInvalid, nil)
	case name != h.server.Export:
		return false, h.reply(o, replyErrorUnknown, nil)
	}
	if err := h.reply(o, replyInfo, h.server.describe(binary.BigEndian.AppendUint16(nil, infoExport))); err != nil {
		return false, err
	}
	if slices.Contains(wanted, infoBlockSize) {
		sizes := binary.BigEndian.AppendUint16(nil, infoBlockSize)
		for _, size := range []uint32{1, preferredRead, maxRead} {
			sizes = binary.BigEndian.AppendUint32(sizes, size)
		}
		if err := h.reply(o, replyInfo, sizes); err != nil {
			return false, err
		}
	}
	return o.code == optionGo, h.reply(o, replyAck, nil)
}

func (h *handshake) reply(o option, code uint32, data []byte) error {
	answer := binary.BigEndian.AppendUint64(nil, magicOptionReply)
	answer = binary.BigEndian.AppendUint32(answer, o.code)
	answer = binary.BigEndian.AppendUint32(answer, code)
	answer = binary.BigEndian.AppendUint32(answer, uint32(len(data)))
	_, err := h.rw.Write(append(answer, data...))
	return err
}

// describe appends the export's size and what it offers.
func (s *Server) describe(b []byte) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(b, uint64(s.Size)), exportFlags)
}
