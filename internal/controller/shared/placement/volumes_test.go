// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func volumeOn(terms ...corev1.NodeSelectorTerm) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: terms}},
	}}
}

func TestReaches(t *testing.T) {
	here := node("a", map[string]string{"zone": "east"})
	matches := func(expressions ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: expressions}
	}
	for name, test := range map[string]struct {
		volume *corev1.PersistentVolume
		want   bool
	}{
		"no rule":         {&corev1.PersistentVolume{}, true},
		"an empty rule":   {&corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{NodeAffinity: &corev1.VolumeNodeAffinity{}}}, true},
		"local":           {volumeOn(matches(expression("kubernetes.io/hostname", "In", "a"))), true},
		"local to others": {volumeOn(matches(expression("kubernetes.io/hostname", "In", "b", "c"))), false},
		"one of two":      {volumeOn(matches(expression("zone", "In", "west")), matches(expression("zone", "Exists"))), true},
		"both of one":     {volumeOn(matches(expression("zone", "Exists"), expression("zone", "NotIn", "east"))), false},
		"by name": {volumeOn(corev1.NodeSelectorTerm{
			MatchFields: []corev1.NodeSelectorRequirement{expression("metadata.name", "In", "b")},
		}), false},
		"it cannot be read": {volumeOn(matches(expression("zone", "Odd"))), true},
	} {
		if got := Reaches(test.volume, &here); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if !IsEverywhere(&corev1.PersistentVolume{}) || IsEverywhere(volumeOn(matches())) {
		t.Error("whether there is a rule is told wrong")
	}
}
