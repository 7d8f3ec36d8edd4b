// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Every field of the spec has its class: a new field cannot be forgotten.
func TestEveryFieldHasAClass(t *testing.T) {
	var classified []string
	for _, field := range fieldClasses {
		if field.class != changeLive && field.class != changeRestart {
			t.Errorf("%s has the class %q", field.path, field.class)
		}
		classified = append(classified, field.path)
	}
	if !slices.IsSorted(classified) {
		t.Error("the table is not sorted by path")
	}
	for _, path := range jsonPaths(reflect.TypeFor[v1alpha2.VirtualMachineSpec]()) {
		covered := slices.ContainsFunc(classified, func(known string) bool {
			return known == path || strings.HasPrefix(known, path+".")
		})
		if !covered {
			t.Errorf("spec.%s has no class: add it to fieldClasses", path)
		}
	}
}

// jsonPaths lists the fields of the spec; cpu and memory are listed by member.
func jsonPaths(spec reflect.Type) []string {
	var paths []string
	for i := range spec.NumField() {
		name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
		member := spec.Field(i).Type
		if name != "cpu" && name != "memory" {
			paths = append(paths, name)
			continue
		}
		for _, inner := range jsonPaths(member) {
			paths = append(paths, name+"."+inner)
		}
	}
	return paths
}
