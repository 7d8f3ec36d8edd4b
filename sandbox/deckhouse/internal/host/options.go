// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package host runs addon-operator the way Deckhouse does, for one module.
package host

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/bundle"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"
)

// Options say what to run and where.
type Options struct {
	// Kubeconfig is the administrator's access to the cluster.
	Kubeconfig string
	// ModuleDir is the module: the repository or an unpacked bundle.
	ModuleDir string
	// HookBinaries are the module's compiled hooks; those in ModuleDir if empty.
	HookBinaries []string
	// DigestsFile is the images_digests.json.
	DigestsFile string
	// WorkDir holds the copy of the module and temporary files.
	WorkDir string
	// PresentModules are other modules that the platform claims to run.
	PresentModules []string
	// MetricsAddress serves /metrics and /readyz.
	MetricsAddress string
	// WebhookListen serves the admission of ModuleConfigs, WebhookURL is where the
	// API server finds it; empty for none.
	WebhookListen, WebhookURL string
	LogLevel                  string

	Registry platform.Registry
	Cluster  platform.Cluster
}

// Namespace is where Deckhouse lives, and where Helm keeps its releases.
const Namespace = "d8-system"

// Validate finds what is missing before anything is started.
func (o Options) Validate() error {
	var problems []error
	for flag, value := range map[string]string{
		"--kubeconfig":    o.Kubeconfig,
		"--module-dir":    o.ModuleDir,
		"--digests-file":  o.DigestsFile,
		"--work-dir":      o.WorkDir,
		"--registry-base": o.Registry.Base,
	} {
		if value == "" {
			problems = append(problems, fmt.Errorf("%s is required", flag))
		}
	}
	if _, _, err := net.SplitHostPort(o.MetricsAddress); err != nil {
		problems = append(problems, fmt.Errorf("--metrics-address: %w", err))
	}
	if (o.WebhookListen == "") != (o.WebhookURL == "") {
		problems = append(problems, errors.New("--webhook-listen and --webhook-url are given together or not at all"))
	}
	return errors.Join(problems...)
}

// releasesDir holds unpacked versions of the module, and releaseLink leads to the one that runs, if the module is taken
// from a registry.
func (o Options) releasesDir() string { return filepath.Join(o.WorkDir, "releases") }
func (o Options) releaseLink() string { return filepath.Join(o.WorkDir, "release") }

// released is the folder of the version that runs; empty for the working tree.
func (o Options) released() string {
	folder, err := os.Readlink(o.releaseLink())
	if err != nil {
		return ""
	}
	return folder
}

// effective are the options with the released version in place of the working tree.
func (o Options) effective() Options {
	if folder := o.released(); folder != "" {
		o.ModuleDir, o.HookBinaries, o.DigestsFile = folder, nil, filepath.Join(folder, bundle.DigestsFile)
	}
	return o
}

// modulesDir is where addon-operator looks for modules.
func (o Options) modulesDir() string { return filepath.Join(o.WorkDir, "modules") }

// globalDir would hold global hooks; there are none.
func (o Options) globalDir() string { return filepath.Join(o.WorkDir, "global") }

func (o Options) temporaryDir() string { return filepath.Join(o.WorkDir, "tmp") }

func (o Options) debugSocket() string { return filepath.Join(o.WorkDir, "debug.sock") }
