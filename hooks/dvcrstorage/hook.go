// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrstorage

import (
	"context"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// Config subscribes to nothing: what the storage is matters when Helm is about to change it, and then it is looked at.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle fails while the storage can't follow the settings: then Helm does not run, and what is installed goes on. It
// keeps the volume's class for Helm, which would otherwise follow a default that has changed since, in vain.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	wanted, err := Wanted(input.Values, "virtualization.")
	if err != nil {
		return err
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return err
	}
	state, err := Observe(ctx, cluster, wanted)
	if err != nil {
		return err
	}
	if err := state.Judge(wanted); err != nil {
		return err
	}
	if state.Volume != nil && state.Volume.Class != "" {
		input.Values.Set(settings.DVCRVolumeClass, state.Volume.Class)
	} else if input.Values.Exists(settings.DVCRVolumeClass) {
		input.Values.Remove(settings.DVCRVolumeClass)
	}
	return nil
}
