// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/dvcrstorage"
	"github.com/deckhouse/virtualization/hooks/lookup"
)

// Registry refuses a storage of the registry that the present one can't become, and a class for its volume that the
// cluster does not have. The hook of the same does not ask for the class: it may come with another module.
func Registry(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	wanted, err := dvcrstorage.Wanted(input.Settings, "")
	if err != nil {
		return verdict(err)
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return verdict(err)
	}
	state, err := dvcrstorage.Observe(ctx, cluster, wanted)
	if err != nil {
		return verdict(err)
	}
	if state.Volume != nil || wanted.Volume.Class == "" {
		return verdict(state.Judge(wanted))
	}
	existing, err := classNames(ctx, cluster)
	if err != nil {
		return verdict(err)
	}
	var missing error
	if text := missingClass(dvcrstorage.ClassPath, wanted.Volume.Class, existing); text != "" {
		missing = errors.New(text)
	}
	return verdict(state.Judge(wanted), missing)
}
