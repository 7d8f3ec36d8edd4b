// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"
	"encoding/base64"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/hooks/lookup"
)

// serviceRanges are served by Kubernetes 1.33 and later.
var serviceRanges = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"}

// Where Deckhouse keeps what the cluster was made with.
const (
	clusterNamespace = "kube-system"
	clusterSecret    = "d8-cluster-configuration"
	clusterKey       = "cluster-configuration.yaml"
)

// readSubnets finds the subnets of services in the cluster's ServiceCIDRs, and both in Deckhouse's configuration.
func readSubnets(ctx context.Context, cluster lookup.Cluster) ([]network, error) {
	ranges, err := cluster.List(ctx, serviceRanges)
	if err != nil {
		return nil, err
	}
	var found []network
	for i := range ranges {
		texts, _, _ := unstructured.NestedStringSlice(ranges[i].Object, "spec", "cidrs")
		found = append(found, networks(servicesTitle, texts...)...)
	}
	secret, err := cluster.Get(ctx, lookup.Secrets, clusterNamespace, clusterSecret)
	if err != nil || secret == nil {
		return found, err
	}
	return append(found, configuredSubnets(secret)...), nil
}

// configuredSubnets reads Deckhouse's configuration of the cluster. One that can't be read is the hook's to judge.
func configuredSubnets(secret *unstructured.Unstructured) []network {
	encoded, _, _ := unstructured.NestedString(secret.Object, "data", clusterKey)
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	var configuration struct {
		PodSubnet     string `json:"podSubnetCIDR"`
		ServiceSubnet string `json:"serviceSubnetCIDR"`
	}
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		return nil
	}
	return append(networks(podsTitle, strings.Split(configuration.PodSubnet, ",")...),
		networks(servicesTitle, strings.Split(configuration.ServiceSubnet, ",")...)...)
}
