// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// tokenSize bytes tell our echoes from those that others ask for: all programs of a
// node's network see all answers.
const tokenSize = 16

// icmpEcho is a raw socket, which takes CAP_NET_RAW. The unprivileged kind depends on
// a kernel parameter of the node.
type icmpEcho struct {
	connection *icmp.PacketConn
	to         net.Addr
	address    netip.Addr
	token      []byte
	buffer     []byte
}

// OpenEcho returns an Echoer for one address, of either family. Each echo takes the
// route that is there when it is sent.
func OpenEcho(address netip.Addr) (Echoer, error) {
	network, own := "ip4:icmp", "0.0.0.0"
	if address.Is6() {
		network, own = "ip6:ipv6-icmp", "::"
	}
	connection, err := icmp.ListenPacket(network, own)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for echo requests to %s: %w", address, err)
	}
	token := make([]byte, tokenSize)
	_, _ = rand.Read(token) // never fails
	return &icmpEcho{
		connection: connection, to: &net.IPAddr{IP: address.AsSlice()}, address: address,
		token: token, buffer: make([]byte, 1500),
	}, nil
}

// Send asks for the echo number n.
func (e *icmpEcho) Send(n int) error {
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(e.token[0])<<8 | int(e.token[1]), Seq: n & 0xffff, Data: e.token}}
	if e.address.Is6() {
		message.Type = ipv6.ICMPTypeEchoRequest
	}
	packet, err := message.Marshal(nil) // the kernel fills the checksum of IPv6 in
	if err != nil {
		return err
	}
	_, err = e.connection.WriteTo(packet, e.to)
	return err
}

// Receive waits for an echo of ours. A measurement has fewer than 65,536 of them, so
// that the number on the wire is the number.
func (e *icmpEcho) Receive() (int, error) {
	protocolNumber := ipv4.ICMPTypeEcho.Protocol()
	if e.address.Is6() {
		protocolNumber = ipv6.ICMPTypeEchoRequest.Protocol()
	}
	for {
		size, _, err := e.connection.ReadFrom(e.buffer)
		if errors.Is(err, net.ErrClosed) {
			return 0, err
		}
		if err != nil {
			continue
		}
		message, err := icmp.ParseMessage(protocolNumber, e.buffer[:size])
		if err != nil || (message.Type != ipv4.ICMPTypeEchoReply && message.Type != ipv6.ICMPTypeEchoReply) {
			continue
		}
		if echo, ok := message.Body.(*icmp.Echo); ok && bytes.Equal(echo.Data, e.token) {
			return echo.Seq, nil
		}
	}
}

// Close ends a Receive that waits.
func (e *icmpEcho) Close() error { return e.connection.Close() }
