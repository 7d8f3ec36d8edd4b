// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/build"
	"github.com/deckhouse/virtualization/sandbox/internal/image"
	"github.com/deckhouse/virtualization/sandbox/internal/ports"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

// moduleRegistry serves releases of the module and publishes them.
var moduleRegistry = image.Program{Module: "sandbox/deckhouse", Package: "./cmd/module-registry"}

// publication is what is published where.
type publication struct {
	repository, moduleDir string
	version, channel      string
	rebuild               bool
	// also are images that are rebuilt beside the module's own.
	also []string
}

func newPublish() *cobra.Command {
	var p publication
	cmd := &cobra.Command{
		Use:   "publish VERSION",
		Short: "Publish a version of the module on a release channel",
		Long: `Publishes the module under a version in the sandbox's registry, where Deckhouse's
side finds it once there is a ModuleSource with the address that this command prints:

  apiVersion: deckhouse.io/v1alpha1
  kind: ModuleSource
  metadata: {name: sandbox}
  spec: {registry: {repo: ADDRESS, scheme: HTTP}}

From then on the released version runs instead of the working tree, until the
ModuleSource is deleted.`,
		Example: "  sandbox publish v0.1.0\n  sandbox publish v0.2.0 --channel=Beta --rebuild",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := newSession(cmd.OutOrStdout(), p.repository)
			if err != nil {
				return err
			}
			if s.client, err = supervisor.Dial(s.state); err != nil {
				return err
			}
			defer s.client.Close()
			p.version = args[0]
			return s.report.Phase("publish", func() error { return s.publish(cmd.Context(), p) })
		},
	}
	cmd.Flags().StringVar(&p.repository, "repository", "", "the module's repository (default: the one around the working directory)")
	cmd.Flags().StringVar(&p.moduleDir, "module-dir", "", "folder of the module's files (default: the repository)")
	cmd.Flags().StringVar(&p.channel, "channel", "Alpha", "release channel: Alpha, Beta, EarlyAccess, Stable or RockSolid")
	cmd.Flags().BoolVar(&p.rebuild, "rebuild", false, "assemble the module's own images anew for this version, so that its workloads are replaced")
	cmd.Flags().StringSliceVar(&p.also, "rebuild-also", nil,
		"with --rebuild, images to assemble anew beside the module's own: virt-launcher stands for another KubeVirt, which guests follow by live migration")
	return cmd
}

// startRegistry starts the registry of releases beside Deckhouse's side.
func (s *session) startRegistry(directory, address string) error {
	return s.runOnHost(process.Spec{
		Name: "module-registry",
		Argv: []string{
			filepath.Join(directory, filepath.Base(moduleRegistry.Package)), "serve",
			"--listen=" + address, "--folder=" + s.state.Path("module-registry"),
		},
	})
}

// publish brings the images into the nodes before anybody hears of the version.
func (s *session) publish(ctx context.Context, p publication) error {
	at, err := ports.Load(s.state.Ports())
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the sandbox was not started yet: type \"sandbox up\"")
	}
	if err != nil {
		return err
	}
	digests, err := s.digestsOf(ctx, p)
	if err != nil {
		return err
	}
	repository := at.Registry + "/modules"
	directory, err := s.keepPrograms(ctx, []image.Program{moduleRegistry, {Module: "hooks", Package: "./cmd/virtualization-hooks"}})
	if err != nil {
		return err
	}
	if p.moduleDir == "" {
		p.moduleDir = s.repo
	}
	cmd := exec.CommandContext(ctx, filepath.Join(directory, filepath.Base(moduleRegistry.Package)), "publish",
		"--registry="+repository+"/"+moduleName, "--module-dir="+p.moduleDir,
		"--hook-binary="+filepath.Join(directory, "virtualization-hooks"), "--digests-file="+digests,
		"--version="+p.version, "--channel="+p.channel)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s.report.Say("%s is on the channel %s of %s", p.version, p.channel, repository)
	return nil
}

// digestsOf writes the images_digests.json of a version.
func (s *session) digestsOf(ctx context.Context, p publication) (string, error) {
	content, err := os.ReadFile(filepath.Join(s.state.Images(), build.DigestsFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", errors.New("the module's images are not built yet: type \"sandbox up\"")
	}
	if err != nil {
		return "", err
	}
	digests := map[string]string{}
	if err := json.Unmarshal(content, &digests); err != nil {
		return "", err
	}
	if p.rebuild {
		images, err := s.builder.Release(ctx, p.version, p.also...)
		if err != nil {
			return "", err
		}
		if err := s.load(ctx, archivesOf(images)); err != nil {
			return "", err
		}
		maps.Copy(digests, image.Digests(images))
	}
	if content, err = json.MarshalIndent(digests, "", "  "); err != nil {
		return "", err
	}
	file := filepath.Join(s.state.Images(), "images_digests-"+p.version+".json")
	return file, os.WriteFile(file, append(content, '\n'), 0o644)
}
