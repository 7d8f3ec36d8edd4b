// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// maxResponseHeader bounds what an answer may hold besides its body.
const maxResponseHeader = 64 << 10

// Network says how a source is connected to, and which networks never are.
type Network struct {
	// CA holds further PEM certificate authorities to trust.
	CA []byte
	// Refused are never connected to, whatever a name or a redirect resolves to.
	Refused []netip.Prefix
	// ConnectTimeout bounds the connection and, apart from it, the TLS handshake.
	ConnectTimeout time.Duration
	// HeaderTimeout is how long a server may think before it answers.
	HeaderTimeout time.Duration

	// field is what has to change when the address is refused.
	field string
}

// transport connects anew for each request unless connections are to be kept,
// which many small requests want and one long stream does not need.
func (n Network) transport(keep int) (*http.Transport, error) {
	roots, err := trustedRoots(n.CA)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: n.ConnectTimeout, KeepAlive: 15 * time.Second, Control: n.checkAddress}
	return &http.Transport{
		Proxy:                  n.proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    n.ConnectTimeout,
		ResponseHeaderTimeout:  n.HeaderTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		// The file's bytes are wanted as they are, and one stream is faster
		// over HTTP/1.1 than over HTTP/2.
		DisableCompression:  true,
		DisableKeepAlives:   keep == 0,
		MaxIdleConnsPerHost: keep,
		IdleConnTimeout:     30 * time.Second,
	}, nil
}

// trustedRoots adds the user's authorities to those of the system.
func trustedRoots(ca []byte) (*x509.CertPool, error) {
	if len(ca) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(ca) {
		return nil, &Error{Reason: report.SourceTLS, Permanent: true, Field: "caBundle", Message: "the CA bundle holds no PEM certificate"}
	}
	return pool, nil
}

// proxy is the environment's. The proxy resolves names, so only an address that
// is spelled out can be checked here.
func (n Network) proxy(request *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(request)
	if proxy == nil || err != nil {
		return proxy, err
	}
	if address, err := netip.ParseAddr(request.URL.Hostname()); err == nil {
		if err := n.check(address); err != nil {
			return nil, err
		}
	}
	return proxy, nil
}

// checkAddress runs when a name is resolved and before the connection is made,
// so no name can point around it.
func (n Network) checkAddress(_, address string, _ syscall.RawConn) error {
	endpoint, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	return n.check(endpoint.Addr())
}

func (n Network) check(address netip.Addr) error {
	reached := reachedBy(address.Unmap().WithZone(""))
	for _, network := range n.Refused {
		if network.Contains(reached) {
			return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: n.field,
				Message: fmt.Sprintf("the source is at %s, and images are not imported from the network %s", address, network)}
		}
	}
	return nil
}

// nat64 is the well-known prefix under which IPv4 is reached from IPv6.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// reachedBy is the address that a packet ends up at: the kernel takes the
// unspecified one for its own host, and a translator unwraps IPv4.
func reachedBy(address netip.Addr) netip.Addr {
	switch {
	case address == netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case address == netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	case nat64.Contains(address):
		wide := address.As16()
		return netip.AddrFrom4([4]byte(wide[12:]))
	}
	return address
}
