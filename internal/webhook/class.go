// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/machineclass"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// classValidator answers for VirtualMachineClasses.
type classValidator struct{ reader client.Reader }

// ValidateCreate implements admission.CustomValidator.
func (v *classValidator) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	class, ok := object.(*v1alpha2.VirtualMachineClass)
	if !ok {
		return nil, fmt.Errorf("expected a VirtualMachineClass, got %T", object)
	}
	return v.validate(ctx, nil, class)
}

// ValidateUpdate implements admission.CustomValidator.
func (v *classValidator) ValidateUpdate(ctx context.Context, oldObject, newObject runtime.Object) (admission.Warnings, error) {
	before, ok := oldObject.(*v1alpha2.VirtualMachineClass)
	after, okNew := newObject.(*v1alpha2.VirtualMachineClass)
	if !ok || !okNew {
		return nil, fmt.Errorf("expected VirtualMachineClasses, got %T and %T", oldObject, newObject)
	}
	if after.DeletionTimestamp != nil ||
		(equality.Semantic.DeepEqual(before.Spec, after.Spec) && machineclass.IsDefault(before) == machineclass.IsDefault(after)) {
		return nil, nil
	}
	return v.validate(ctx, before, after)
}

// ValidateDelete implements admission.CustomValidator. Deleting is always allowed: a
// class that machines name stays until they are gone.
func (v *classValidator) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

func (v *classValidator) validate(ctx context.Context, before, after *v1alpha2.VirtualMachineClass) (admission.Warnings, error) {
	problems := classProblems(after)
	if machineclass.IsDefault(after) && (before == nil || !machineclass.IsDefault(before)) {
		other, err := v.otherDefault(ctx, after)
		if err != nil {
			return nil, err
		}
		if other != "" {
			problems = append(problems, field.Forbidden(field.NewPath("metadata", "annotations").Key(v1alpha2.AnnotationDefaultClass),
				fmt.Sprintf("VirtualMachineClass %s is the default already: take the annotation off it first", other)))
		}
	}
	if len(problems) > 0 {
		return nil, invalid(v1alpha2.VirtualMachineClassKind, after, problems)
	}
	return v.warnings(ctx, before, after)
}

// classProblems is what can be said without looking at anything else.
func classProblems(class *v1alpha2.VirtualMachineClass) field.ErrorList {
	checks := []error{machineclass.CheckProcessor(class.Spec.CPU), sizing.CheckPolicies(class.Spec.SizingPolicies)}
	_, err := machineclass.NodeSelector(class.Spec.NodeSelector)
	checks = append(checks, err)
	if class.Spec.CPU.Type == v1alpha2.CPUTypeDiscovery {
		_, err := machineclass.DiscoverySelector(class.Spec.CPU)
		checks = append(checks, err)
	}
	var problems field.ErrorList
	for _, err := range checks {
		if err != nil {
			problems = append(problems, field.Forbidden(field.NewPath("spec"), err.Error()))
		}
	}
	return problems
}

func (v *classValidator) otherDefault(ctx context.Context, class *v1alpha2.VirtualMachineClass) (string, error) {
	classes := &v1alpha2.VirtualMachineClassList{}
	if err := v.reader.List(ctx, classes); err != nil {
		return "", fmt.Errorf("listing the classes: %w", err)
	}
	others := slices.DeleteFunc(classes.Items, func(other v1alpha2.VirtualMachineClass) bool { return other.Name == class.Name })
	if found := machineclass.Default(others); found != nil {
		return found.Name, nil
	}
	return "", nil
}

// warnings tell what is allowed and may not be meant.
func (v *classValidator) warnings(ctx context.Context, before, after *v1alpha2.VirtualMachineClass) (admission.Warnings, error) {
	warnings := sizing.DoubtfulPolicies(after.Spec.SizingPolicies)
	if before == nil {
		warning, err := v.nodesWarning(ctx, after)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		return warnings, err
	}
	if equality.Semantic.DeepEqual(before.Spec.SizingPolicies, after.Spec.SizingPolicies) {
		return warnings, nil
	}
	warning, err := v.sizesWarning(ctx, before, after)
	if warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings, err
}

// nodesWarning looks whether a node fits now; nodes may come later.
func (v *classValidator) nodesWarning(ctx context.Context, class *v1alpha2.VirtualMachineClass) (string, error) {
	cpu := class.Spec.CPU
	if cpu.Type != v1alpha2.CPUTypeModel && cpu.Type != v1alpha2.CPUTypeFeatures {
		return "", nil
	}
	nodes := &corev1.NodeList{}
	if err := v.reader.List(ctx, nodes); err != nil {
		return "", fmt.Errorf("listing the nodes: %w", err)
	}
	processor := machineclass.ProcessorOf(cpu, nil)
	// It was read a moment ago.
	selector, _ := machineclass.NodeSelector(class.Spec.NodeSelector)
	for i := range nodes.Items {
		if own := nodes.Items[i].Labels; selector.Matches(labels.Set(own)) && processor.FitsNode(own) {
			return "", nil
		}
	}
	return "spec.cpu: no node that spec.nodeSelector chooses can show this processor now; the class waits for one, and its status says what is missing", nil
}

// shownMachines is how many machines a warning names.
const shownMachines = 5

// sizesWarning names the machines that the new policies leave outside. They go on as
// they are, but cannot be started or changed until their size is allowed.
func (v *classValidator) sizesWarning(ctx context.Context, before, after *v1alpha2.VirtualMachineClass) (string, error) {
	machines := &v1alpha2.VirtualMachineList{}
	if err := v.reader.List(ctx, machines, client.UnsafeDisableDeepCopy); err != nil {
		return "", fmt.Errorf("listing the machines: %w", err)
	}
	var outside []string
	for i := range machines.Items {
		machine := &machines.Items[i]
		if machineclass.NameFor(machine) != after.Name {
			continue
		}
		if sizing.Check(&machine.Spec, after) != nil && sizing.Check(&machine.Spec, before) == nil {
			outside = append(outside, client.ObjectKeyFromObject(machine).String())
		}
	}
	if len(outside) == 0 {
		return "", nil
	}
	slices.Sort(outside)
	return "spec.sizingPolicies: these machines have sizes that are no longer allowed and will not start until they are changed: " +
		machineclass.Shown(outside, shownMachines), nil
}
