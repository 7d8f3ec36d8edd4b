// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
)

// attachmentValidator answers for VirtualMachineBlockDeviceAttachments. Their spec
// cannot be changed, so there is only their creation to judge.
type attachmentValidator struct {
	reader client.Reader
}

// ValidateCreate implements admission.CustomValidator.
func (v *attachmentValidator) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	created, ok := object.(*v1alpha2.VirtualMachineBlockDeviceAttachment)
	if !ok {
		return nil, fmt.Errorf("expected a VirtualMachineBlockDeviceAttachment, got %T", object)
	}
	key := client.ObjectKey{Namespace: created.Namespace, Name: created.Spec.VirtualMachineName}
	machine, err := shared.Find(ctx, v.reader, key, &v1alpha2.VirtualMachine{})
	if err != nil {
		return nil, err
	}
	others, err := attachmentsOf(ctx, v.reader, key)
	if err != nil {
		return nil, err
	}
	return attachmentWarnings(created, machine),
		invalid(v1alpha2.VirtualMachineBlockDeviceAttachmentKind, created, checkAttachment(created, machine, others))
}

// ValidateUpdate implements admission.CustomValidator. The schema refuses a change of
// the spec.
func (v *attachmentValidator) ValidateUpdate(context.Context, runtime.Object, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

// ValidateDelete implements admission.CustomValidator. Deleting is always allowed.
func (v *attachmentValidator) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

// attachmentsOf lists a machine's attachments. Those that are being deleted stand in
// nobody's way.
func attachmentsOf(ctx context.Context, reader client.Reader, machine client.ObjectKey) ([]v1alpha2.VirtualMachineBlockDeviceAttachment, error) {
	list := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	if err := reader.List(ctx, list, client.InNamespace(machine.Namespace)); err != nil {
		return nil, fmt.Errorf("listing the attachments of VirtualMachine %s: %w", machine, err)
	}
	var out []v1alpha2.VirtualMachineBlockDeviceAttachment
	for i := range list.Items {
		if item := &list.Items[i]; item.Spec.VirtualMachineName == machine.Name && item.DeletionTimestamp == nil {
			out = append(out, *item)
		}
	}
	return out, nil
}

func checkAttachment(created *v1alpha2.VirtualMachineBlockDeviceAttachment, machine *v1alpha2.VirtualMachine, others []v1alpha2.VirtualMachineBlockDeviceAttachment) field.ErrorList {
	ref, path := created.Spec.BlockDeviceRef, field.NewPath("spec", "blockDeviceRef")
	for i := range others {
		if others[i].Spec.BlockDeviceRef == ref {
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("VirtualMachineBlockDeviceAttachment %s attaches %s %s to the machine already",
				others[i].Name, ref.Kind, ref.Name))}
		}
	}
	if machine == nil {
		return nil
	}
	for i, listed := range machine.Spec.BlockDeviceRefs {
		if listed.Kind == ref.Kind && listed.Name == ref.Name {
			return field.ErrorList{field.Forbidden(path, fmt.Sprintf("the machine has %s %s already: its spec.blockDeviceRefs[%d] names it",
				ref.Kind, ref.Name, i))}
		}
	}
	if len(machine.Spec.BlockDeviceRefs)+len(others) >= attachment.Limit {
		return field.ErrorList{field.Forbidden(field.NewPath("spec", "virtualMachineName"), fmt.Sprintf(
			"the machine has %d block devices in its spec and by attachments, and more are not possible: remove one before", attachment.Limit))}
	}
	return nil
}

// attachmentWarnings tells what will be noticed later anyway.
func attachmentWarnings(created *v1alpha2.VirtualMachineBlockDeviceAttachment, machine *v1alpha2.VirtualMachine) []string {
	switch {
	case machine == nil:
		return []string{fmt.Sprintf("spec.virtualMachineName: VirtualMachine %s does not exist yet; the attachment waits for it",
			created.Spec.VirtualMachineName)}
	case !ptr.Deref(machine.Spec.EnableParavirtualization, true):
		return []string{"spec.virtualMachineName: the machine has enableParavirtualization: false; " +
			"its guest sees the device only if it has a driver for virtio-scsi"}
	}
	return nil
}

// ruleAttachments keeps a machine's spec from naming what an attachment brings, and
// from leaving no room for what is attached.
func ruleAttachments(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	had := map[v1alpha2.AttachmentBlockDeviceRef]bool{}
	if before != nil {
		for _, ref := range before.Spec.BlockDeviceRefs {
			had[v1alpha2.AttachmentBlockDeviceRef{Kind: ref.Kind, Name: ref.Name}] = true
		}
	}
	path := field.NewPath("spec", "blockDeviceRefs")
	var problems field.ErrorList
	for i, ref := range after.Spec.BlockDeviceRefs {
		wanted := v1alpha2.AttachmentBlockDeviceRef{Kind: ref.Kind, Name: ref.Name}
		for j := range facts.attachments {
			if facts.attachments[j].Spec.BlockDeviceRef == wanted && !had[wanted] {
				problems = append(problems, field.Forbidden(path.Index(i), fmt.Sprintf(
					"VirtualMachineBlockDeviceAttachment %s attaches %s %s already: delete it first", facts.attachments[j].Name, ref.Kind, ref.Name)))
			}
		}
	}
	grows := before == nil || len(after.Spec.BlockDeviceRefs) > len(before.Spec.BlockDeviceRefs)
	if total := len(after.Spec.BlockDeviceRefs) + len(facts.attachments); grows && total > attachment.Limit {
		problems = append(problems, field.Forbidden(path, fmt.Sprintf("with %d attachments the machine would have %d block devices, and at most %d are possible",
			len(facts.attachments), total, attachment.Limit)))
	}
	return problems
}
