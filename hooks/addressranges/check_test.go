// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	patchablevalues "github.com/deckhouse/module-sdk/pkg/patchable-values"
	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

func TestCheck(t *testing.T) {
	const podNode = "metadata: {name: node-3}\nspec: {podCIDRs: [10.244.3.0/24]}\n"
	full := hooktest.Cluster{Objects: map[string][]string{
		"virtualmachineipaddressleases": {heldLease, releasedLease, emptyLease}, "nodes": {node, newNode, podNode},
	}}
	const serviceRange = "metadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/16, 'fd01::/112']}\n"
	configuration := base64.StdEncoding.EncodeToString([]byte("podSubnetCIDR: 10.111.0.0/16\nserviceSubnetCIDR: 10.222.0.0/16\n"))
	platform := hooktest.Cluster{Objects: map[string][]string{
		"servicecidrs": {serviceRange},
		"secrets": {
			"metadata: {name: d8-cluster-configuration, namespace: kube-system}\ndata: {cluster-configuration.yaml: " + configuration + "}",
		},
	}}
	unreadable := hooktest.Cluster{Objects: map[string][]string{
		"secrets": {"metadata: {name: d8-cluster-configuration, namespace: kube-system}\ndata: {cluster-configuration.yaml: '!'}"},
	}}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "virtualmachineipaddressleases"}, "")
	tests := []struct {
		name    string
		cluster hooktest.Cluster
		ranges  []any
		want    string
	}{
		{name: "good", cluster: full, ranges: []any{"10.66.20.0/24", "10.66.30.0/24"}},
		{name: "no ranges at all", cluster: hooktest.Cluster{NoClient: errors.New("no cluster")}},
		{name: "a machine falls out", cluster: full, ranges: []any{"10.66.30.0/24"}, want: "10.66.20.5 (VirtualMachineIPAddress team/web); add their range again"},
		{name: "a node within", cluster: full, ranges: []any{"10.66.20.0/24", "192.168.1.0/28"}, want: "overlaps the address of node node-1, 192.168.1.10"},
		{name: "pods within", cluster: full, ranges: []any{"10.66.20.0/24", "10.244.0.0/16"}, want: "overlaps the subnet of the pods, 10.244.3.0/24"},
		{name: "services of Kubernetes within", cluster: platform, ranges: []any{"10.96.7.0/24"}, want: "10.96.7.0/24 overlaps the subnet of the services, 10.96.0.0/16"},
		{name: "services of Deckhouse within", cluster: platform, ranges: []any{"10.222.7.0/24"}, want: "overlaps the subnet of the services, 10.222.0.0/16"},
		{name: "pods of Deckhouse within", cluster: platform, ranges: []any{"10.111.7.0/24"}, want: "overlaps the subnet of the pods, 10.111.0.0/16"},
		{name: "beside all of them", cluster: platform, ranges: []any{"10.66.10.0/24"}},
		{name: "a configuration that can't be read", cluster: unreadable, ranges: []any{"10.222.7.0/24"}},
		{name: "an old Kubernetes", ranges: []any{"10.96.7.0/24"}, cluster: hooktest.Cluster{Problems: map[string]error{"servicecidrs": missing}}},
		{name: "services unknown", ranges: []any{"10.66.30.0/24"}, want: "from the cluster now, try again: broken",
			cluster: hooktest.Cluster{Problems: map[string]error{"servicecidrs": errors.New("broken")}}},
		{name: "configuration unknown", ranges: []any{"10.66.30.0/24"}, want: "from the cluster now, try again: broken",
			cluster: hooktest.Cluster{Problems: map[string]error{"secrets": errors.New("broken")}}},
		{name: "the module is new", ranges: []any{"10.66.30.0/24"}, cluster: hooktest.Cluster{Problems: map[string]error{"virtualmachineipaddressleases": missing}}},
		{name: "no cluster", cluster: hooktest.Cluster{NoClient: errors.New("no cluster")}, ranges: []any{"10.66.30.0/24"}, want: "no cluster"},
		{name: "leases unknown", ranges: []any{"10.66.30.0/24"}, want: "virtualmachineipaddressleases can't be read from the cluster now, try again: broken",
			cluster: hooktest.Cluster{Problems: map[string]error{"virtualmachineipaddressleases": errors.New("broken")}}},
		{name: "nodes unknown", ranges: []any{"10.66.30.0/24"}, want: "nodes can't be read from the cluster now, try again: broken",
			cluster: hooktest.Cluster{Problems: map[string]error{"nodes": errors.New("broken")}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values, err := patchablevalues.NewPatchableValues(map[string]any{"virtualMachineCIDRs": test.ranges})
			if err != nil {
				t.Fatal(err)
			}
			got := Check(t.Context(), settingscheck.Input{Settings: values, DC: test.cluster})
			if got.Valid != (test.want == "") || !strings.Contains(got.Message, test.want) {
				t.Errorf("got %+v, want %q", got, test.want)
			}
		})
	}
}
