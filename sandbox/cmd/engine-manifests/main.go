// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command engine-manifests writes the manifests of the engine's operators into
// the module's chart.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/deckhouse/virtualization/sandbox/internal/build"
	"github.com/deckhouse/virtualization/sandbox/internal/engine"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: engine-manifests REPOSITORY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := generate(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine-manifests:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, repoRoot string) error {
	dir, err := state.FromEnvironment()
	if err != nil {
		return err
	}
	builder, err := build.New(dir.Path(), repoRoot, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return err
	}
	results, err := builder.Build(ctx, engine.Releases()...)
	if err != nil {
		return err
	}
	folders := map[string]string{}
	for _, result := range results {
		folders[result.Name] = result.Path
	}
	return engine.Generate(ctx, repoRoot, folders)
}
