// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcraddress finds out the ClusterIP of the registry's Service, which Helm creates in its first run.
package dvcraddress

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "service"

// Config subscribes to the Service; its appearance is what starts the second run of Helm.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDiscovered},
	Kubernetes:   []pkg.KubernetesConfig{settings.Waking(settings.Own(snapshot, "Service", "dvcr", ".spec.clusterIP"))},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle puts the address into the values, or takes it out while there is none.
func Handle(_ context.Context, input *pkg.HookInput) error {
	found, err := objectpatch.UnmarshalToStruct[string](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read Service dvcr: %w", err)
	}
	for _, text := range found {
		if address, err := netip.ParseAddr(text); err == nil {
			input.Values.Set(settings.DVCRServiceIP, address.String())
			return nil
		}
	}
	input.Values.Remove(settings.DVCRServiceIP)
	return nil
}
