// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/deckhouse/deckhouse/pkg/log"
	"github.com/flant/addon-operator/pkg/module_manager/loader"
	"github.com/flant/addon-operator/pkg/module_manager/models/modules"
	"github.com/flant/addon-operator/pkg/utils"
)

const (
	// moduleWeight is the order of a module whose definition names none.
	moduleWeight = 900
	// presentWeight puts the modules that others need before them.
	presentWeight = 20
)

// moduleLoader gives addon-operator the module and, as empty shells, the other
// modules that the platform claims to run: so they appear in global.enabledModules.
type moduleLoader struct {
	options Options
	name    string
	logger  *log.Logger
}

var _ loader.ModuleLoader = (*moduleLoader)(nil)

// LoadModules loads everything once.
func (l *moduleLoader) LoadModules() ([]*modules.BasicModule, error) {
	var loaded []*modules.BasicModule
	for _, name := range l.options.PresentModules {
		shell, err := modules.NewBasicModule(name, l.dir(name), presentWeight, nil, nil, nil, modules.WithLogger(l.logger))
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
		// Critical modules run in the main queue, one after the other: what is
		// needed comes first, and nothing asks every few seconds whether it is done.
		shell.SetCritical(true)
		loaded = append(loaded, shell)
	}
	module, err := l.LoadModule("", l.dir(l.name))
	if err != nil {
		return nil, err
	}
	return append(loaded, module), nil
}

// LoadModule loads a module from its bundle.
func (l *moduleLoader) LoadModule(_, dir string) (*modules.BasicModule, error) {
	config, values, err := utils.ReadOpenAPIFiles(filepath.Join(dir, "openapi"))
	if err != nil {
		return nil, fmt.Errorf("schemas of module %s: %w", l.name, err)
	}
	module, err := modules.NewBasicModule(l.name, dir, moduleWeight, nil, config, values, modules.WithLogger(l.logger))
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", l.name, err)
	}
	module.SetCritical(true)
	registry := l.options.Registry
	module.InjectRegistryValue(&modules.Registry{
		Base: registry.Base, DockerCfg: registry.DockerCfg, Scheme: registry.Scheme, CA: registry.CA,
	})
	return module, nil
}

func (l *moduleLoader) dir(name string) string {
	return filepath.Join(l.options.modulesDir(), name)
}

// prepareDirs makes what addon-operator expects to find before it starts: the
// folders, and which modules are on without anybody asking.
func prepareDirs(options Options) error {
	dirs := []string{options.modulesDir(), options.globalDir(), options.temporaryDir()}
	var enabled strings.Builder
	for _, name := range options.PresentModules {
		dirs = append(dirs, filepath.Join(options.modulesDir(), name))
		fmt.Fprintf(&enabled, "%sEnabled: true\n", utils.ModuleNameToValuesKey(name))
	}
	var problems []error
	for _, dir := range dirs {
		problems = append(problems, os.MkdirAll(dir, 0o755))
	}
	problems = append(problems, os.WriteFile(filepath.Join(options.modulesDir(), "values.yaml"), []byte(enabled.String()), 0o644))
	return errors.Join(problems...)
}
