// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command coredns is CoreDNS with only the plugins that the sandbox's Corefile
// names: a full build would link every cloud's client for nothing.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

func init() {
	// The order is that of a request's way through the plugins; a plugin that
	// is compiled in but missing here would be refused in a Corefile.
	dnsserver.Directives = []string{
		"reload", "ready", "health", "errors", "log",
		"cache", "loadbalance", "template", "kubernetes",
	}
}

func main() { coremain.Run() }
