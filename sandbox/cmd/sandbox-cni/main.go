// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox-cni is the network plugin of the sandbox's nodes.
package main

import (
	"runtime"

	"github.com/deckhouse/virtualization/sandbox/internal/cni"
)

func main() {
	// Namespaces belong to threads; the plugin must stay on its own.
	runtime.LockOSThread()
	cni.New().Main()
}
