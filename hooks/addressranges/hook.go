// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const (
	leases = "leases"
	nodes  = "nodes"
)

// Config subscribes to what the ranges are held against. Nothing of it starts the hook: it judges before Helm
// rolls the ranges out.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
	Kubernetes: []pkg.KubernetesConfig{
		{
			Name:       leases,
			APIVersion: "virtualization.deckhouse.io/v1alpha2",
			Kind:       "VirtualMachineIPAddressLease",
			JqFilter: `{"name": .metadata.name, "namespace": .spec.virtualMachineIPAddressRef.namespace, ` +
				`"claim": .spec.virtualMachineIPAddressRef.name}`,
			ExecuteHookOnEvents:          settings.No(),
			ExecuteHookOnSynchronization: settings.No(),
		},
		{
			Name:                         nodes,
			APIVersion:                   "v1",
			Kind:                         "Node",
			JqFilter:                     `[.status.addresses[]? | select(.type == "InternalIP" or .type == "ExternalIP") | .address]`,
			ExecuteHookOnEvents:          settings.No(),
			ExecuteHookOnSynchronization: settings.No(),
		},
	},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle fails while the ranges can't be used: then Helm does not run, and what is installed goes on.
func Handle(_ context.Context, input *pkg.HookInput) error {
	held, err := objectpatch.UnmarshalToStruct[lease](input.Snapshots, leases)
	if err != nil {
		return fmt.Errorf("read VirtualMachineIPAddressLeases: %w", err)
	}
	addresses, err := objectpatch.UnmarshalToStruct[[]string](input.Snapshots, nodes)
	if err != nil {
		return fmt.Errorf("read Nodes: %w", err)
	}
	var others []network
	for _, path := range slices.Sorted(maps.Keys(subnets)) {
		others = append(others, networks(subnets[path], strings.Split(input.Values.Get(path).String(), ",")...)...)
	}
	for _, each := range addresses {
		others = append(others, networks("the address of a node", each...)...)
	}
	var ranges []string
	for _, each := range input.Values.Get(settings.AddressRanges).Array() {
		ranges = append(ranges, each.String())
	}
	return judge(ranges, others, held)
}
