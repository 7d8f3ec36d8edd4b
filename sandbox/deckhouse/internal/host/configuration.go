// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"
)

// configurationSecret is where Deckhouse keeps what the cluster was made with; modules read the subnets there.
const configurationSecret = "d8-cluster-configuration"

// ensureConfiguration keeps what is known of the cluster where modules look for it.
func ensureConfiguration(ctx context.Context, client kubernetes.Interface, cluster platform.Cluster) error {
	text, err := yaml.Marshal(map[string]string{
		"apiVersion": "deckhouse.io/v1", "kind": "ClusterConfiguration",
		"clusterDomain": cluster.Domain, "podSubnetCIDR": cluster.PodSubnet, "serviceSubnetCIDR": cluster.ServiceSubnet,
	})
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: configurationSecret, Namespace: metav1.NamespaceSystem, Labels: map[string]string{"heritage": "deckhouse"}},
		Data:       map[string][]byte{"cluster-configuration.yaml": text},
	}
	secrets := client.CoreV1().Secrets(metav1.NamespaceSystem)
	_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("keep the cluster's configuration: %w", err)
	}
	return nil
}
