// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command d8v is the command line client of the module.
package main

import (
	"os"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/deckhouse/virtualization/internal/d8v"
	"github.com/deckhouse/virtualization/internal/program"
)

func main() {
	program.Main(d8v.NewCommand(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}))
}
