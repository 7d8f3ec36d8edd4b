// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox-runc is runc for nodes on a machine whose root lacks
// CAP_SYS_RESOURCE: it takes that capability out of what containers ask for.
package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/deckhouse/virtualization/sandbox/internal/runtimespec"
)

const runc = "/usr/sbin/runc"

func main() {
	err := runtimespec.Rewrite(os.Args[1:])
	if err == nil {
		err = syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "sandbox-runc:", err)
	os.Exit(1)
}
