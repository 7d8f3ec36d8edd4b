// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestCheckPolicies(t *testing.T) {
	memory := func(m v1alpha2.SizingPolicyMemory) []v1alpha2.SizingPolicy {
		return []v1alpha2.SizingPolicy{{Cores: v1alpha2.SizingPolicyCores{Min: 1, Max: 4}, Memory: &m}}
	}
	for _, tc := range []struct {
		name     string
		policies []v1alpha2.SizingPolicy
		want     string
	}{
		{name: "none"},
		{name: "memory in order", policies: memory(v1alpha2.SizingPolicyMemory{Min: quantity("1Gi"), Max: quantity("1024Mi"), Step: quantity("1Mi")})},
		{
			name:     "cores reversed",
			policies: []v1alpha2.SizingPolicy{{Cores: v1alpha2.SizingPolicyCores{Min: 4, Max: 1}}},
			want:     "spec.sizingPolicies[0].cores: min 4 is greater than max 1; swap them",
		},
		{
			name:     "step too large",
			policies: []v1alpha2.SizingPolicy{{Cores: v1alpha2.SizingPolicyCores{Min: 1, Max: 4, Step: ptr.To(int32(5))}}},
			want:     "spec.sizingPolicies[0].cores.step: 5 is greater than max 4; lower it",
		},
		{
			name: "memory reversed", policies: memory(v1alpha2.SizingPolicyMemory{Min: quantity("2Gi"), Max: quantity("1Gi")}),
			want: "spec.sizingPolicies[0].memory: min 2Gi is greater than max 1Gi; swap them",
		},
		{
			name: "memory step", policies: memory(v1alpha2.SizingPolicyMemory{Step: quantity("0")}),
			want: "spec.sizingPolicies[0].memory.step: 0 is not positive; raise it or leave it out",
		},
		{
			name: "memory per core reversed",
			policies: memory(v1alpha2.SizingPolicyMemory{PerCore: &v1alpha2.SizingPolicyMemoryPerCore{
				Min: quantity("2Gi"), Max: quantity("1Gi"),
			}}),
			want: "spec.sizingPolicies[0].memory.perCore: min 2Gi is greater than max 1Gi; swap them",
		},
		{
			name: "same range twice",
			policies: []v1alpha2.SizingPolicy{
				{Cores: v1alpha2.SizingPolicyCores{Min: 1, Max: 4}}, {Cores: v1alpha2.SizingPolicyCores{Min: 1, Max: 4}},
			},
			want: "spec.sizingPolicies[1].cores: 1-4 overlaps with spec.sizingPolicies[0].cores 1-4; let each count of cores be in one policy only",
		},
	} {
		if got := errorText(CheckPolicies(tc.policies)); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestDoubtfulPolicies(t *testing.T) {
	policy := func(of string, fallback *intstr.IntOrString, fractions ...v1alpha2.CoreFractionPercent) v1alpha2.SizingPolicy {
		return v1alpha2.SizingPolicy{Cores: cores(of), CoreFractions: fractions, DefaultCoreFraction: fallback}
	}
	for _, tc := range []struct {
		name   string
		policy v1alpha2.SizingPolicy
		want   string
	}{
		{name: "anything goes", policy: policy("1-4", nil)},
		{name: "a full core is allowed", policy: policy("1-4", nil, 50, 100)},
		{name: "the default is allowed", policy: policy("1-4", ptr.To(intstr.FromString("50%")), 50)},
		{name: "only a default", policy: policy("1-4", ptr.To(intstr.FromInt32(10)))},
		{
			name: "the default is not allowed", policy: policy("1-4", ptr.To(intstr.FromInt32(10)), 20, 50),
			want: "spec.sizingPolicies[0].defaultCoreFraction: 10% is not in coreFractions, so machines that set no coreFraction are refused; add it there",
		},
		{
			name: "no default where a full core is not allowed", policy: policy("1-4", nil, 20, 50),
			want: "spec.sizingPolicies[0].defaultCoreFraction: it is not set, which means 100%, and coreFractions does not allow that, " +
				"so machines that set no coreFraction are refused; set it",
		},
		{
			name: "larger than any machine", policy: policy("249-1024", nil),
			want: "spec.sizingPolicies[0].cores: a machine has at most 248 cores, so none falls under this policy",
		},
	} {
		if got := strings.Join(DoubtfulPolicies([]v1alpha2.SizingPolicy{tc.policy}), "; "); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}
