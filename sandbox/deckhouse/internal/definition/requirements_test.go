// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"reflect"
	"testing"
)

func TestUnmet(t *testing.T) {
	good := Platform{Deckhouse: "v1.74.2", Kubernetes: "v1.34.4", Modules: map[string]string{"cni-cilium": "0.0.0"}}
	tests := []struct {
		name         string
		requirements Requirements
		platform     Platform
		want         []string
	}{
		{
			name: "nothing required", platform: Platform{},
		},
		{
			name: "all met",
			requirements: Requirements{
				Deckhouse: ">= 1.74.2", Kubernetes: ">= 1.30", Modules: map[string]string{"cni-cilium": ">= 0.0.0"},
			},
			platform: good,
		},
		{
			name:         "old Deckhouse",
			requirements: Requirements{Deckhouse: ">= 1.75"},
			platform:     good,
			want:         []string{"Deckhouse has version v1.74.2: version >= 1.75 is required"},
		},
		{
			name:         "old Kubernetes and a missing module",
			requirements: Requirements{Kubernetes: ">= 1.35", Modules: map[string]string{"sdn": ">= 0.6.2", "cni-cilium": ">= 0.0.0"}},
			platform:     good,
			want: []string{
				"Kubernetes has version v1.34.4: version >= 1.35 is required",
				"module sdn is not enabled: enable it (version >= 0.6.2)",
			},
		},
		{
			name:         "an optional module may be absent",
			requirements: Requirements{Modules: map[string]string{"sdn": ">= 0.6.2 !optional"}},
			platform:     good,
		},
		{
			name:         "an optional module that is there must have the version",
			requirements: Requirements{Modules: map[string]string{"sdn": ">=0.6.2 !optional"}},
			platform:     Platform{Modules: map[string]string{"sdn": "0.5.0"}},
			want:         []string{"module sdn has version 0.5.0: version >=0.6.2 is required"},
		},
		{
			name:         "a pre-release counts as its release",
			requirements: Requirements{Kubernetes: ">= 1.34"},
			platform:     Platform{Kubernetes: "v1.34.0-rc.1"},
		},
		{
			name:         "unreadable constraint and unknown version",
			requirements: Requirements{Deckhouse: "newest", Kubernetes: ">= 1.30"},
			platform:     Platform{Deckhouse: "1.74.2"},
			want: []string{
				`requirement on Deckhouse can't be read: "newest" is no version constraint`,
				`version of Kubernetes is unknown (""): version >= 1.30 is required`,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.requirements.Unmet(test.platform); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
