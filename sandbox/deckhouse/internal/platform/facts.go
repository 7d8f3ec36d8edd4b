// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

const (
	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
	// rolePrefix begins the labels by which Deckhouse dedicates nodes to a role.
	rolePrefix          = "node-role.deckhouse.io/"
	defaultClassMark    = "storageclass.kubernetes.io/is-default-class"
	masterRole          = "master"
	controlPlaneRoleKey = "control-plane"
)

// CountNodes tells how many masters there are and how many nodes have each role.
func CountNodes(nodes []*corev1.Node) (masters int, byRole map[string]int) {
	byRole = map[string]int{}
	for _, node := range nodes {
		if _, found := node.Labels[controlPlaneLabel]; found {
			masters++
			byRole[masterRole]++
		}
		for label := range node.Labels {
			role, found := strings.CutPrefix(label, rolePrefix)
			if found && role != "" && role != controlPlaneRoleKey {
				byRole[role]++
			}
		}
	}
	return masters, byRole
}

// DefaultClass is the newest StorageClass marked as the default one, as
// Kubernetes itself chooses it; its name decides between equally old ones.
func DefaultClass(classes []*storagev1.StorageClass) string {
	var marked []*storagev1.StorageClass
	for _, class := range classes {
		if class.Annotations[defaultClassMark] == "true" {
			marked = append(marked, class)
		}
	}
	if len(marked) == 0 {
		return ""
	}
	newest := slices.MaxFunc(marked, func(a, b *storagev1.StorageClass) int {
		if order := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); order != 0 {
			return order
		}
		return strings.Compare(b.Name, a.Name)
	})
	return newest.Name
}
