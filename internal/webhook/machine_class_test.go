// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestMachineClass(t *testing.T) {
	naming := func(class string) *v1alpha2.VirtualMachine {
		return testMachine(func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineClassName = class })
	}
	given := naming("")
	given.Status.VirtualMachineClassName = "old"
	labelledGiven := given.DeepCopy()
	labelledGiven.Labels = map[string]string{"app": "web"}
	relabelled := naming("leaving")
	relabelled.Labels = map[string]string{"app": "web"}

	generic, leaving := testClass("generic", isDefault), testClass("leaving", isLeaving)
	small := testClass("small", isDefault, sized(8, 16))
	noDefault := "spec.virtualMachineClassName: Required value: no class is the default: name one, or let the administrator give a VirtualMachineClass the annotation " +
		defaultMark + `: "true"`
	for _, test := range []struct {
		name          string
		before, after *v1alpha2.VirtualMachine
		classes       []client.Object
		refused       string
		warning       string
	}{
		{name: "named", after: naming("generic"), classes: []client.Object{generic}},
		{name: "named and missing", after: naming("fast"), classes: []client.Object{generic}, warning: "VirtualMachineClass fast does not exist yet"},
		{name: "default", after: naming(""), classes: []client.Object{leaving, generic}},
		{name: "no default", after: naming(""), classes: []client.Object{testClass("plain")}, refused: noDefault},
		{name: "no class at all", after: naming(""), refused: noDefault},
		{name: "the default's sizes count", after: naming(""), classes: []client.Object{small}, refused: "spec.cpu.cores is 2: VirtualMachineClass small allows 8 to 16; use 8"},
		{
			name: "being deleted", after: naming("leaving"), classes: []client.Object{leaving},
			refused: "spec.virtualMachineClassName: Forbidden: VirtualMachineClass leaving is being deleted and takes no more machines: name another one",
		},
		{name: "changed to one that goes", before: naming("generic"), after: naming("leaving"), classes: []client.Object{generic, leaving}, refused: "takes no more machines"},
		{name: "keeps one that goes", before: naming("leaving"), after: relabelled, classes: []client.Object{leaving}},
		{name: "keeps the default that it was given", before: given, after: labelledGiven, classes: []client.Object{testClass("old"), small}},
	} {
		t.Run(test.name, func(t *testing.T) {
			validator := &machineValidator{reader: classReader(t, test.classes...), pool: testPool(t, "10.0.0.0/24")}
			var warnings []string
			var err error
			if test.before == nil {
				warnings, err = validator.ValidateCreate(context.Background(), test.after)
			} else {
				warnings, err = validator.ValidateUpdate(context.Background(), test.before, test.after)
			}
			checkAnswer(t, warnings, err, test.refused, test.warning)
		})
	}
}

func TestMachineWithoutClassIsNotAdmittedBlindly(t *testing.T) {
	validator := &machineValidator{reader: deafReader{}}
	machine := testMachine(func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineClassName = "" })
	if _, err := validator.ValidateCreate(context.Background(), machine); err == nil {
		t.Error("a machine was admitted although the classes could not be read")
	}
}
