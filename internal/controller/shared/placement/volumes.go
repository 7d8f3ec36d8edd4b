// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// IsEverywhere tells that a volume does not care which node uses it.
func IsEverywhere(volume *corev1.PersistentVolume) bool {
	return volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil
}

// Reaches tells whether a node can use a volume. A rule that cannot be read does not
// hold anything up: the scheduler says what is wrong with it.
func Reaches(volume *corev1.PersistentVolume, node *corev1.Node) bool {
	if IsEverywhere(volume) {
		return true
	}
	selector, err := nodeaffinity.NewNodeSelector(volume.Spec.NodeAffinity.Required)
	return err != nil || selector.Match(node)
}
