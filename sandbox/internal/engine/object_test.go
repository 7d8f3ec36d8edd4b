// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"reflect"
	"testing"

	"sigs.k8s.io/yaml"
)

func parsed(t *testing.T, text string) object {
	t.Helper()
	o := object{}
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAdopt(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{
			"a role of the cluster",
			"{kind: ClusterRole, metadata: {name: kubevirt-operator, creationTimestamp: null}, rules: []}",
			"{kind: ClusterRole, metadata: {name: 'd8:virtualization:virt-operator', labels: {heritage: deckhouse, module: virtualization, app: virt-operator}}, rules: []}",
		},
		{
			"its binding",
			"{kind: ClusterRoleBinding, metadata: {name: kubevirt-operator}, roleRef: {kind: ClusterRole, name: kubevirt-operator}, subjects: [{name: kubevirt-operator}]}",
			`{kind: ClusterRoleBinding, metadata: {name: 'd8:virtualization:virt-operator', labels: {heritage: deckhouse, module: virtualization, app: virt-operator}},
				roleRef: {kind: ClusterRole, name: 'd8:virtualization:virt-operator'}, subjects: [{name: kubevirt-operator}]}`,
		},
		{
			"a CRD, which belongs to no operator alone",
			"{kind: CustomResourceDefinition, metadata: {name: cdis, labels: {old: kept}}, status: {conditions: []}}",
			"{kind: CustomResourceDefinition, metadata: {name: cdis, labels: {old: kept, heritage: deckhouse, module: virtualization}}}",
		},
		{
			"what keeps its name",
			"{kind: ServiceAccount, metadata: {name: kubevirt-operator}}",
			"{kind: ServiceAccount, metadata: {name: kubevirt-operator, labels: {heritage: deckhouse, module: virtualization, app: virt-operator}}}",
		},
		{
			"nothing but a kind",
			"{kind: ConfigMap}",
			"{kind: ConfigMap, metadata: {labels: {heritage: deckhouse, module: virtualization, app: virt-operator}}}",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := parsed(t, tt.before)
			// It is generated again and again, from what it has become too.
			for range 2 {
				got.adopt("virt-operator")
				if want := parsed(t, tt.after); !reflect.DeepEqual(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			}
		})
	}
}

func TestKindOfNoObject(t *testing.T) {
	for _, text := range []string{"{}", "{kind: 1}", "{kind: [List]}"} {
		if got := parsed(t, text).kind(); got != "" {
			t.Errorf("%s is a %q", text, got)
		}
	}
}
