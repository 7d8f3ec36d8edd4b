// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package defaultclass

import (
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	path     = "virtualization.internal.moduleState.defaultClassCreated"
	noValues = "{virtualization: {internal: {moduleState: {}}}}"
	done     = "{virtualization: {internal: {moduleState: {defaultClassCreated: true}}}}"

	remembered = `
apiVersion: v1
kind: Secret
metadata: {name: module-state, namespace: d8-virtualization}
data: {defaultClassCreated: dHJ1ZQ==}
`
	otherState = `
apiVersion: v1
kind: Secret
metadata: {name: module-state, namespace: d8-virtualization}
data: {somethingElse: dHJ1ZQ==}
`
	generic = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineClass
metadata: {name: generic}
`
	otherDefault = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineClass
metadata:
  name: fast
  annotations: {virtualmachineclass.virtualization.deckhouse.io/is-default-class: "true"}
`
	other = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineClass
metadata: {name: slow}
`
)

func TestHandle(t *testing.T) {
	tests := []struct {
		name    string
		values  string
		objects []string
		created bool
		marked  bool
	}{
		{name: "first run", values: noValues, created: true, marked: true},
		{name: "other classes exist", values: noValues, objects: []string{other}, created: true, marked: true},
		{name: "another default exists", values: noValues, objects: []string{other, otherDefault}, created: true},
		{name: "the class exists", values: noValues, objects: []string{generic}},
		{name: "the administrator deleted it", values: noValues, objects: []string{remembered}},
		{name: "the state remembers something else", values: noValues, objects: []string{otherState}, created: true, marked: true},
		{name: "creating failed after the values were set", values: done, created: true, marked: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			result := hooktest.Run{Config: Config, Values: test.values, Objects: test.objects}.Handle(t, Handle)

			var state bool
			if result.Decode(path, &state); !state {
				t.Error("it is not remembered that the class was made")
			}
			if created := len(result.Created) == 1; created != test.created {
				t.Fatalf("created = %v, want %v", created, test.created)
			}
			if !test.created {
				return
			}
			mark := result.Created[0].GetAnnotations()["virtualmachineclass.virtualization.deckhouse.io/is-default-class"]
			if marked := mark == "true"; marked != test.marked {
				t.Errorf("marked as default = %v, want %v", marked, test.marked)
			}
		})
	}
}

func TestClass(t *testing.T) {
	class, err := missing(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := class.GetKind() + "/" + class.GetName(); got != "VirtualMachineClass/generic" {
		t.Errorf("class = %s, want VirtualMachineClass/generic", got)
	}
	if _, protected := class.GetLabels()["heritage"]; protected {
		t.Error("the label heritage would keep administrators from editing the class")
	}
}
