// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

var (
	// serviceRangeResource is served by Kubernetes 1.33 and later.
	serviceRangeResource = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "servicecidrs"}
	secretResource       = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
)

// Where Deckhouse keeps what the cluster was made with.
const (
	clusterNamespace = "kube-system"
	clusterSecret    = "d8-cluster-configuration"
	clusterKey       = "cluster-configuration.yaml"
)

// readSubnets finds the subnets of services in the cluster's ServiceCIDRs, and both in Deckhouse's configuration.
func readSubnets(ctx context.Context, cluster dynamic.Interface) ([]network, error) {
	var found []network
	list, err := cluster.Resource(serviceRangeResource).List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, unknownSubnets(err)
	}
	if err == nil {
		for i := range list.Items {
			texts, _, _ := unstructured.NestedStringSlice(list.Items[i].Object, "spec", "cidrs")
			found = append(found, networks(servicesTitle, texts...)...)
		}
	}
	secret, err := cluster.Resource(secretResource).Namespace(clusterNamespace).Get(ctx, clusterSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return found, nil
	}
	if err != nil {
		return nil, unknownSubnets(err)
	}
	return append(found, configuredSubnets(secret)...), nil
}

func unknownSubnets(err error) error {
	return fmt.Errorf("%s: it can't be told which addresses pods and services have, try again: %w", setting, err)
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
