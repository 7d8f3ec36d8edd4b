// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/lookup"
)

// Check answers whoever changes the settings. It is given no values of the platform, so it reads the subnets of pods and
// services where the cluster keeps them; what is not found there is left to the hook.
func Check(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	var ranges []string
	for _, each := range input.Settings.Get(setting).Array() {
		ranges = append(ranges, each.String())
	}
	// Without ranges the schema has more to say.
	if len(ranges) == 0 {
		return settingscheck.Allow()
	}
	others, held, err := read(ctx, input)
	if err == nil {
		err = judge(ranges, others, held)
	}
	if err != nil {
		return settingscheck.Reject(err.Error())
	}
	return settingscheck.Allow()
}

func read(ctx context.Context, input settingscheck.Input) ([]network, []lease, error) {
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return nil, nil, err
	}
	held, err := readLeases(ctx, cluster)
	if err != nil {
		return nil, nil, err
	}
	others, err := readNodes(ctx, cluster)
	if err != nil {
		return nil, nil, err
	}
	subnets, err := readSubnets(ctx, cluster)
	return append(others, subnets...), held, err
}

func readLeases(ctx context.Context, cluster lookup.Cluster) ([]lease, error) {
	items, err := cluster.List(ctx, lookup.Module("virtualmachineipaddressleases"))
	var held []lease
	for i := range items {
		claim, _, _ := unstructured.NestedStringMap(items[i].Object, "spec", "virtualMachineIPAddressRef")
		held = append(held, lease{Name: items[i].GetName(), Namespace: claim["namespace"], Claim: claim["name"]})
	}
	return held, err
}

func readNodes(ctx context.Context, cluster lookup.Cluster) ([]network, error) {
	items, err := cluster.List(ctx, lookup.Nodes)
	var found []network
	for i := range items {
		addresses, _, _ := unstructured.NestedSlice(items[i].Object, "status", "addresses")
		for _, each := range addresses {
			// What is no address, such as the host name, is left out.
			if address, ok := each.(map[string]any)["address"].(string); ok {
				found = append(found, networks("the address of node "+items[i].GetName(), address)...)
			}
		}
		pods, _, _ := unstructured.NestedStringSlice(items[i].Object, "spec", "podCIDRs")
		found = append(found, networks(podsTitle, pods...)...)
	}
	return found, err
}
