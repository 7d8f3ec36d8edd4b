// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestSchemeKnowsEveryKind(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{
		"VirtualMachine", "VirtualMachineClass", "VirtualMachineBlockDeviceAttachment", "VirtualMachineOperation",
		"VirtualMachineIPAddress", "VirtualMachineIPAddressLease", "VirtualDisk", "VirtualImage", "ClusterVirtualImage",
	} {
		for _, name := range []string{kind, kind + "List"} {
			want := schema.GroupVersionKind{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Kind: name}
			if !scheme.Recognizes(want) {
				t.Errorf("the scheme does not know %v", want)
			}
		}
	}
}

func TestQualifiedNames(t *testing.T) {
	if got := Kind("VirtualDisk").String(); got != "VirtualDisk.virtualization.deckhouse.io" {
		t.Errorf("kind is %s", got)
	}
	if got := Resource("virtualdisks").String(); got != "virtualdisks.virtualization.deckhouse.io" {
		t.Errorf("resource is %s", got)
	}
}

// TestPendingChangesKeepTheirValues: values of any shape survive both JSON and the map form that patches are made of.
func TestPendingChangesKeepTheirValues(t *testing.T) {
	for name, value := range map[string]string{
		"number": `4`, "text": `"4Gi"`, "truth": `true`, "list": `["a",{"b":1}]`, "map": `{"a":{"b":[1.5]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			machine := &VirtualMachine{Status: VirtualMachineStatus{RestartAwaitingChanges: []RestartAwaitingChange{
				{Operation: ChangeReplace, Path: "a.b", DesiredValue: json.RawMessage(value)},
			}}}
			fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(machine)
			if err != nil {
				t.Fatal(err)
			}
			back := &VirtualMachine{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, back); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(back.Status.RestartAwaitingChanges)
			if err != nil {
				t.Fatal(err)
			}
			want := `[{"operation":"replace","path":"a.b","desiredValue":` + value + `}]`
			if string(text) != want {
				t.Errorf("got %s, want %s", text, want)
			}
		})
	}
}

// TestCopiesShareNothing: what a decision changes in its copy must not reach the cache.
func TestCopiesShareNothing(t *testing.T) {
	order := int32(1)
	machine := &VirtualMachine{
		Spec: VirtualMachineSpec{BlockDeviceRefs: []BlockDeviceRef{{Name: "system", BootOrder: &order}}},
		Status: VirtualMachineStatus{RestartAwaitingChanges: []RestartAwaitingChange{
			{CurrentValue: json.RawMessage(`1`)},
		}},
	}
	copied := machine.DeepCopy()
	*copied.Spec.BlockDeviceRefs[0].BootOrder = 2
	copied.Status.RestartAwaitingChanges[0].CurrentValue[0] = '2'
	if order != 1 || string(machine.Status.RestartAwaitingChanges[0].CurrentValue) != "1" {
		t.Error("a change of the copy changed the original")
	}
}
