// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"
)

// A host that starts again may have been given another configuration.
func TestConfigurationIsKept(t *testing.T) {
	ctx, client := context.Background(), fake.NewClientset()
	for _, subnet := range []string{"10.1.0.0/16", "10.244.0.0/16"} {
		cluster := platform.Cluster{Domain: "cluster.local", PodSubnet: subnet, ServiceSubnet: "10.96.0.0/16"}
		if err := ensureConfiguration(ctx, client, cluster); err != nil {
			t.Fatal(err)
		}
		secret, err := client.CoreV1().Secrets("kube-system").Get(ctx, "d8-cluster-configuration", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text := string(secret.Data["cluster-configuration.yaml"])
		for _, line := range []string{"podSubnetCIDR: " + subnet, "serviceSubnetCIDR: 10.96.0.0/16", "clusterDomain: cluster.local"} {
			if !strings.Contains(text, line) {
				t.Errorf("%q is not in\n%s", line, text)
			}
		}
	}
	client.PrependReactor("update", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("broken")
	})
	if err := ensureConfiguration(ctx, client, platform.Cluster{}); err == nil || !strings.Contains(err.Error(), "keep the cluster's configuration: broken") {
		t.Errorf("got %v", err)
	}
}
