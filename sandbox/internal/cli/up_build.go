// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/deckhouse/virtualization/sandbox/internal/build"
	"github.com/deckhouse/virtualization/sandbox/internal/image"
	"github.com/deckhouse/virtualization/sandbox/internal/noderoot"
)

const (
	pauseImage = build.SandboxRepository + "/pause:" + build.SandboxTag
	ownModule  = "sandbox"
)

// nodeTools are our own programs that nodes run.
var nodeTools = []image.Program{
	{Module: ownModule, Package: "./cmd/sandbox-bashible"},
	{Module: ownModule, Package: "./cmd/sandbox-cni"},
	{Module: ownModule, Package: "./cmd/sandbox-runc"},
}

// buildRuntime builds what the nodes themselves consist of.
func buildRuntime(ctx context.Context, s *session) error {
	// Meanwhile what images and guests are made of comes over the network.
	s.builder.Prefetch(ctx, "prometheus", "images", "guests")
	results, err := s.builder.Build(ctx, "kubernetes", "containerd")
	if err != nil {
		return err
	}
	paths := map[string]string{}
	for _, r := range results {
		paths[r.Name] = r.Path
	}
	tools, err := s.keepPrograms(ctx, nodeTools)
	if err != nil {
		return err
	}
	root, err := noderoot.Ensure(ctx, s.builder, s.state.Cache(), s.report.Say)
	if err != nil {
		return err
	}
	s.artifact.Kubernetes, s.artifact.Containerd = paths["kubernetes"], paths["containerd"]
	s.artifact.Tools, s.artifact.Root = tools, root
	s.artifact.PauseImage = pauseImage
	return nil
}

// keepPrograms compiles programs of ours and copies them into one folder whose
// name follows their content: what runs keeps the ones it was started with, and
// something that was started with others has to be started again.
func (s *session) keepPrograms(ctx context.Context, programs []image.Program) (string, error) {
	made, err := s.builder.Programs(ctx, programs)
	if err != nil {
		return "", err
	}
	key := ""
	for _, p := range programs {
		key += made[p].Key
	}
	dir := filepath.Join(s.state.Cache(), "tools", shortHash(key))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, p := range programs {
		target := filepath.Join(dir, filepath.Base(p.Package))
		if _, err := os.Stat(target); err == nil {
			continue
		}
		if err := copyProgram(made[p].Path, target); err != nil {
			return "", fmt.Errorf("keep %s: %w", p.Package, err)
		}
	}
	return dir, nil
}

// copyProgram copies an executable so that it is there whole or not at all.
func copyProgram(source, target string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	tmp := target + ".new"
	if err := os.WriteFile(tmp, data, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, target)
}
