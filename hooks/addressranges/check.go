// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"
)

var (
	leaseResource = schema.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: "virtualmachineipaddressleases"}
	nodeResource  = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
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
	client, err := input.DC.GetK8sClient()
	if err != nil {
		return nil, nil, err
	}
	held, err := readLeases(ctx, client.Dynamic())
	if err != nil {
		return nil, nil, err
	}
	others, err := readNodes(ctx, client.Dynamic())
	if err != nil {
		return nil, nil, err
	}
	subnets, err := readSubnets(ctx, client.Dynamic())
	return append(others, subnets...), held, err
}

func readLeases(ctx context.Context, cluster dynamic.Interface) ([]lease, error) {
	list, err := cluster.Resource(leaseResource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		// The module was never enabled here.
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: it can't be told which addresses are in use, try again: %w", setting, err)
	}
	var held []lease
	for i := range list.Items {
		claim, _, _ := unstructured.NestedStringMap(list.Items[i].Object, "spec", "virtualMachineIPAddressRef")
		held = append(held, lease{Name: list.Items[i].GetName(), Namespace: claim["namespace"], Claim: claim["name"]})
	}
	return held, nil
}

func readNodes(ctx context.Context, cluster dynamic.Interface) ([]network, error) {
	list, err := cluster.Resource(nodeResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: it can't be told which addresses the nodes have, try again: %w", setting, err)
	}
	var found []network
	for i := range list.Items {
		addresses, _, _ := unstructured.NestedSlice(list.Items[i].Object, "status", "addresses")
		for _, each := range addresses {
			// What is no address, such as the host name, is left out.
			if address, ok := each.(map[string]any)["address"].(string); ok {
				found = append(found, networks("the address of node "+list.Items[i].GetName(), address)...)
			}
		}
		pods, _, _ := unstructured.NestedStringSlice(list.Items[i].Object, "spec", "podCIDRs")
		found = append(found, networks(podsTitle, pods...)...)
	}
	return found, nil
}
