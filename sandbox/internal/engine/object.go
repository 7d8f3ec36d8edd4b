// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"bytes"
)

// object is a Kubernetes object of any kind.
type object map[string]any

func bufferedReader(content []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(content)) }

func (o object) kind() string {
	kind, _ := o["kind"].(string)
	return kind
}

// child returns a map inside the object, made if there is none.
func (o object) child(name string) map[string]any {
	child, found := o[name].(map[string]any)
	if !found {
		child = map[string]any{}
		o[name] = child
	}
	return child
}

// adopt makes an object one of the module's: it gets the labels that Deckhouse
// knows the module's objects by, and the roles of the cluster get names that
// cannot meet those of another KubeVirt. The operators never ask for these names.
func (o object) adopt(operator string) {
	delete(o, "status")
	metadata := o.child("metadata")
	delete(metadata, "creationTimestamp")
	labels := object(metadata).child("labels")
	labels["heritage"] = "deckhouse"
	labels["module"] = "virtualization"

	name := "d8:virtualization:" + operator
	switch o.kind() {
	case "CustomResourceDefinition":
	case "ClusterRole":
		metadata["name"] = name
		labels["app"] = operator
	case "ClusterRoleBinding":
		metadata["name"] = name
		o.child("roleRef")["name"] = name
		labels["app"] = operator
	default:
		labels["app"] = operator
	}
}
