// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
	"github.com/flant/addon-operator/pkg/module_manager/models/hooks/kind"
	"github.com/flant/addon-operator/pkg/utils"
)

// checkTimeout is within what the API server gives an admission.
const checkTimeout = 8 * time.Second

// ownCheck finds the module's own check of its settings among its hooks; nil when it has none.
func ownCheck(ctx context.Context, name, moduleDir, temporaryDir string, logger *log.Logger) (func(map[string]any) error, error) {
	folder := filepath.Join(moduleDir, "hooks")
	binaries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, binary := range binaries {
		path := filepath.Join(folder, binary.Name())
		config, err := kind.GetBatchHookConfig(name, path)
		if err != nil {
			return nil, fmt.Errorf("what hooks the module has: %w", err)
		}
		if !config.HasSettingsCheck {
			continue
		}
		check := kind.NewSettingsCheck(path, temporaryDir, logger)
		return func(settings map[string]any) error {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			result, err := check.Check(ctx, utils.Values(settings))
			switch {
			case err != nil:
				return fmt.Errorf("the module's own check failed: %w", err)
			case !result.Valid:
				return errors.New(result.Message)
			}
			return nil
		}, nil
	}
	return nil, nil
}
