// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

// classOf is the class that the machine has or will be given, or nil.
func (v *machineValidator) classOf(ctx context.Context, machine *v1alpha2.VirtualMachine) (*v1alpha2.VirtualMachineClass, error) {
	if name := machineclass.NameFor(machine); name != "" {
		return shared.Find(ctx, v.reader, client.ObjectKey{Name: name}, &v1alpha2.VirtualMachineClass{})
	}
	classes := &v1alpha2.VirtualMachineClassList{}
	if err := v.reader.List(ctx, classes); err != nil {
		return nil, fmt.Errorf("listing the classes: %w", err)
	}
	return machineclass.Default(classes.Items), nil
}

// ruleClass refuses machines that would wait for a class in vain, and those that would
// keep a class from going that somebody has deleted.
func ruleClass(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	path := field.NewPath("spec", "virtualMachineClassName")
	switch {
	case before != nil && machineclass.NameFor(before) == machineclass.NameFor(after):
		return nil
	case facts.class == nil && machineclass.NameFor(after) == "":
		return field.ErrorList{field.Required(path, fmt.Sprintf(
			"no class is the default: name one, or let the administrator give a VirtualMachineClass the annotation %s: \"true\"",
			v1alpha2.AnnotationDefaultClass))}
	case facts.class != nil && facts.class.DeletionTimestamp != nil:
		return field.ErrorList{field.Forbidden(path, fmt.Sprintf(
			"VirtualMachineClass %s is being deleted and takes no more machines: name another one", facts.class.Name))}
	}
	return nil
}
