// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bashible configures a node the way Deckhouse does: it runs the scripts
// of all NodeGroupConfigurations that are for the node's group.
package bashible

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// bundle is the family of operating systems that the nodes belong to.
const bundle = "debian"

// anything stands for all groups or all families.
const anything = "*"

// defaultWeight is the platform's own for scripts that name none.
const defaultWeight = 100

// Step is a script.
type Step struct {
	Name    string
	Weight  int
	Content string
}

type configuration struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Content    string   `json:"content"`
		Weight     *int     `json:"weight"`
		NodeGroups []string `json:"nodeGroups"`
		Bundles    []string `json:"bundles"`
	} `json:"spec"`
}

// stepsFor chooses the scripts for a node of a group, in the order in which they run.
func stepsFor(group string, objects []unstructured.Unstructured) ([]Step, error) {
	var steps []Step
	for _, object := range objects {
		var c configuration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &c); err != nil {
			return nil, fmt.Errorf("NodeGroupConfiguration %s: %w", object.GetName(), err)
		}
		if !chooses(c.Spec.NodeGroups, group) || !chooses(c.Spec.Bundles, bundle) {
			continue
		}
		weight := defaultWeight
		if c.Spec.Weight != nil {
			weight = *c.Spec.Weight
		}
		steps = append(steps, Step{Name: c.Metadata.Name, Weight: weight, Content: c.Spec.Content})
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Weight, b.Weight), cmp.Compare(a.Name, b.Name))
	})
	return steps, nil
}

func chooses(list []string, name string) bool {
	return slices.Contains(list, anything) || slices.Contains(list, name)
}

// checksum tells configurations apart.
func checksum(steps []Step) string {
	sum := sha256.New()
	for _, s := range steps {
		fmt.Fprintf(sum, "%s\x00%d\x00%d\x00%s", s.Name, s.Weight, len(s.Content), s.Content)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
