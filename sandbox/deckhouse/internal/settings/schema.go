// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flant/addon-operator/pkg/utils"
	"github.com/flant/addon-operator/pkg/values/validation"
	"github.com/hashicorp/go-multierror"
)

// settingsPath is where users find the settings in a ModuleConfig.
const settingsPath = "spec.settings"

// Schema checks settings of the newest version against a module's openapi/config-values.yaml.
type Schema struct {
	key     string
	storage *validation.SchemaStorage
}

// LoadSchema reads openapi/ of a module. It fails where the schema is missing,
// since then every typing error would be accepted.
func LoadSchema(moduleName, moduleDir string) (*Schema, error) {
	path := filepath.Join(moduleDir, "openapi", "config-values.yaml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the schema of the settings: %w", err)
	}
	storage, err := validation.NewSchemaStorage(raw, nil)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	return &Schema{key: utils.ModuleNameToValuesKey(moduleName), storage: storage}, nil
}

// Check returns nil or an error that names every wrong field by its path in the ModuleConfig.
func (s *Schema) Check(settings map[string]any) error {
	completed := utils.Values(settings).Copy()
	if completed == nil {
		completed = utils.Values{}
	}
	validation.ApplyDefaults(completed, s.storage.Schemas[validation.ConfigValuesSchema])
	err := s.storage.ValidateConfigValues(s.key, utils.Values{s.key: map[string]any(completed)})
	if err == nil {
		return nil
	}
	return errors.New(strings.Join(s.explain(err), "; "))
}

// explain turns the validator's errors into sorted sentences. The validator
// speaks of "<module>.path in body ..."; a user has no such thing.
func (s *Schema) explain(err error) []string {
	var found []string
	var many *multierror.Error
	if errors.As(err, &many) {
		for _, one := range many.Errors {
			found = append(found, s.explainOne(one.Error()))
		}
	} else {
		for _, line := range strings.Split(err.Error(), "\n") {
			found = append(found, s.explainOne(line))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (s *Schema) explainOne(text string) string {
	path, problem, found := strings.Cut(text, " in body ")
	if !found {
		return settingsPath + ": " + text
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, s.key), ".")
	if path == "" {
		return settingsPath + ": " + problem
	}
	problem = strings.Replace(problem, "is a forbidden property", "is not a known setting: check its spelling", 1)
	return settingsPath + "." + path + ": " + problem
}
