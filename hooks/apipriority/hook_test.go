// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package apipriority

import (
	"encoding/json"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	fresh = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha2.virtualization.deckhouse.io, labels: {kube-aggregator.kubernetes.io/automanaged: "true"}}
spec: {group: virtualization.deckhouse.io, version: v1alpha2, groupPriorityMinimum: 1000, versionPriority: 100}
`
	raised = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha2.virtualization.deckhouse.io, labels: {module: virtualization}}
spec: {group: virtualization.deckhouse.io, version: v1alpha2, groupPriorityMinimum: 1100, versionPriority: 100}
`
	managedAgain = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1alpha2.virtualization.deckhouse.io, labels: {kube-aggregator.kubernetes.io/automanaged: "true"}}
spec: {group: virtualization.deckhouse.io, version: v1alpha2, groupPriorityMinimum: 1100, versionPriority: 100}
`
	ofOthers = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.kubevirt.io}
spec: {group: kubevirt.io, version: v1, groupPriorityMinimum: 1000, versionPriority: 100}
`
)

func TestHandle(t *testing.T) {
	tests := []struct {
		name    string
		objects []string
		patched bool
	}{
		{name: "no CRD yet", objects: []string{ofOthers}},
		{name: "as the API server made it", objects: []string{fresh, ofOthers}, patched: true},
		{name: "raised already", objects: []string{raised}},
		{name: "the API server may still set it back", objects: []string{managedAgain}, patched: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result := hooktest.Run{Config: Config, Objects: test.objects, Values: "{}"}.Handle(t, Handle)
			if !test.patched {
				if len(result.Patched) > 0 {
					t.Errorf("patched %v, want nothing", result.Patched)
				}
				return
			}
			if len(result.Patched) != 1 || result.Patched[0].Name != "v1alpha2.virtualization.deckhouse.io" {
				t.Fatalf("patched %v, want the group's APIService", result.Patched)
			}
			got, err := json.Marshal(result.Patched[0].Patch)
			if err != nil {
				t.Fatal(err)
			}
			want := `{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":null,"module":"virtualization"}},"spec":{"groupPriorityMinimum":1100}}`
			if string(got) != want {
				t.Errorf("patch = %s, want %s", got, want)
			}
		})
	}
}
