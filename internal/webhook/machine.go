// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// machineValidator answers for VirtualMachines.
type machineValidator struct {
	reader client.Reader
	pool   ipam.Pool
}

// machineFacts is what the rules need to know beside the machine. A nil pointer
// means that there is no such object.
type machineFacts struct {
	class *v1alpha2.VirtualMachineClass
	// namesake is an address claim of the machine's name.
	namesake *v1alpha2.VirtualMachineIPAddress
	// claimUser is another machine that uses the address claim that the machine names.
	claimUser string
	// bootImage is the image that the machine would boot from first.
	bootImage *v1alpha2.ImageStatus
	// attachments are those of the machine.
	attachments []v1alpha2.VirtualMachineBlockDeviceAttachment
	pool        ipam.Pool
}

// ValidateCreate implements admission.CustomValidator.
func (v *machineValidator) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	machine, ok := object.(*v1alpha2.VirtualMachine)
	if !ok {
		return nil, fmt.Errorf("expected a VirtualMachine, got %T", object)
	}
	return v.validate(ctx, nil, machine)
}

// ValidateUpdate implements admission.CustomValidator.
func (v *machineValidator) ValidateUpdate(ctx context.Context, oldObject, newObject runtime.Object) (admission.Warnings, error) {
	before, ok := oldObject.(*v1alpha2.VirtualMachine)
	after, okNew := newObject.(*v1alpha2.VirtualMachine)
	if !ok || !okNew {
		return nil, fmt.Errorf("expected VirtualMachines, got %T and %T", oldObject, newObject)
	}
	if after.DeletionTimestamp != nil || isSame(before, after) {
		return nil, nil
	}
	return v.validate(ctx, before, after)
}

// ValidateDelete implements admission.CustomValidator. Deleting is always allowed.
func (v *machineValidator) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

func isSame(before, after *v1alpha2.VirtualMachine) bool {
	return equality.Semantic.DeepEqual(before.Spec, after.Spec) &&
		equality.Semantic.DeepEqual(before.Labels, after.Labels) &&
		equality.Semantic.DeepEqual(before.Annotations, after.Annotations)
}

func (v *machineValidator) validate(ctx context.Context, before, after *v1alpha2.VirtualMachine) (admission.Warnings, error) {
	facts, err := v.gather(ctx, after)
	if err != nil {
		return nil, err
	}
	var problems field.ErrorList
	for _, rule := range machineRules {
		problems = append(problems, rule(before, after, facts)...)
	}
	return machineWarnings(before, after, facts), invalid(v1alpha2.VirtualMachineKind, after, problems)
}

func (v *machineValidator) gather(ctx context.Context, machine *v1alpha2.VirtualMachine) (machineFacts, error) {
	facts := machineFacts{pool: v.pool}
	var err error
	if facts.class, err = v.classOf(ctx, machine); err != nil {
		return facts, err
	}
	if facts.namesake, err = shared.Find(ctx, v.reader, client.ObjectKeyFromObject(machine), &v1alpha2.VirtualMachineIPAddress{}); err != nil {
		return facts, err
	}
	if facts.claimUser, err = v.claimUser(ctx, machine); err != nil {
		return facts, err
	}
	if facts.attachments, err = attachmentsOf(ctx, v.reader, client.ObjectKeyFromObject(machine)); err != nil {
		return facts, err
	}
	ref := bootDevice(machine.Spec.BlockDeviceRefs)
	if ref == nil {
		return facts, nil
	}
	switch ref.Kind {
	case v1alpha2.BlockDeviceVirtualImage:
		image, err := shared.Find(ctx, v.reader, client.ObjectKey{Namespace: machine.Namespace, Name: ref.Name}, &v1alpha2.VirtualImage{})
		if err == nil && image != nil && image.Status.Phase == v1alpha2.ImageReady {
			facts.bootImage = &image.Status.ImageStatus
		}
		return facts, err
	case v1alpha2.BlockDeviceClusterVirtualImage:
		image, err := shared.Find(ctx, v.reader, client.ObjectKey{Name: ref.Name}, &v1alpha2.ClusterVirtualImage{})
		if err == nil && image != nil && image.Status.Phase == v1alpha2.ImageReady {
			facts.bootImage = &image.Status.ImageStatus
		}
		return facts, err
	}
	return facts, nil
}
