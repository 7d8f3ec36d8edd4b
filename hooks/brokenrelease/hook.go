// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package brokenrelease lets the module be installed again after a removal that did not end.
//
// Helm notes that it is uninstalling before it runs the Job that removes the engine. When that fails and somebody
// enables the module again, Helm 3 finds neither a release to upgrade nor none, and refuses for ever: "has no deployed
// releases". Without the revision that was being removed it goes on from the one before, or takes over what is there.
package brokenrelease

import (
	"context"
	"fmt"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/settings"
)

const (
	// releasesNamespace is where Deckhouse lets Helm keep its releases.
	releasesNamespace = "d8-system"
	// unfinished selects revisions of the module's release whose removal began, by Helm's own labels.
	unfinished = "owner=helm,name=" + settings.Module + ",status=uninstalling"
)

// Config runs the hook before Helm. The module is enabled then, so nothing is being removed any more: Deckhouse never
// does both at once.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle deletes what Helm keeps of a removal that did not end. It asks the server itself: a revision of an installed
// module is megabytes large, too much to keep for this.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return err
	}
	revisions, err := cluster.Select(ctx, lookup.Secrets, releasesNamespace, unfinished)
	if err != nil {
		return fmt.Errorf("look for Helm's revisions of the module: %w", err)
	}
	for _, revision := range revisions {
		input.PatchCollector.Delete("v1", "Secret", releasesNamespace, revision.GetName())
	}
	return nil
}
