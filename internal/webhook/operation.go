// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

// operationValidator answers for VirtualMachineOperations. What it lets through is
// judged once more by the controller when the operation's turn comes: between the two
// the machine may have changed.
type operationValidator struct {
	reader client.Reader
	// direct is asked about a machine that the cache does not show, since it may have
	// been made a moment ago, and about other operations: of two orders a breath apart
	// the second has to be told of the first.
	direct client.Reader
}

// ValidateCreate implements admission.CustomValidator.
func (v *operationValidator) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	operation, ok := object.(*v1alpha2.VirtualMachineOperation)
	if !ok {
		return nil, fmt.Errorf("expected a VirtualMachineOperation, got %T", object)
	}
	key := client.ObjectKey{Namespace: operation.Namespace, Name: operation.Spec.VirtualMachineName}
	machine, err := shared.Find(ctx, v.reader, key, &v1alpha2.VirtualMachine{})
	if err == nil && machine == nil {
		machine, err = shared.Find(ctx, v.direct, key, &v1alpha2.VirtualMachine{})
	}
	if err != nil {
		return nil, err
	}
	active, err := v.active(ctx, operation)
	if err != nil {
		return nil, err
	}
	return nil, invalid(v1alpha2.VirtualMachineOperationKind, operation, checkOperation(operation, machine, active))
}

// ValidateUpdate implements admission.CustomValidator. The schema says that the spec
// does not change, and everything else may.
func (v *operationValidator) ValidateUpdate(context.Context, runtime.Object, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

// ValidateDelete implements admission.CustomValidator. Deleting is always allowed.
func (v *operationValidator) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

// active lists the machine's operations that have not ended.
func (v *operationValidator) active(ctx context.Context, operation *v1alpha2.VirtualMachineOperation) ([]*v1alpha2.VirtualMachineOperation, error) {
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := v.direct.List(ctx, list, client.InNamespace(operation.Namespace)); err != nil {
		return nil, fmt.Errorf("listing operations: %w", err)
	}
	var out []*v1alpha2.VirtualMachineOperation
	for i := range list.Items {
		other := &list.Items[i]
		if other.Spec.VirtualMachineName == operation.Spec.VirtualMachineName && other.Name != operation.Name && !operations.IsFinished(other) {
			out = append(out, other)
		}
	}
	return out, nil
}

// checkOperation asks in the order in which a user would mend things.
func checkOperation(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine, active []*v1alpha2.VirtualMachineOperation) field.ErrorList {
	name, kind := field.NewPath("spec", "virtualMachineName"), field.NewPath("spec", "type")
	if machine == nil {
		return field.ErrorList{field.NotFound(name, operation.Spec.VirtualMachineName)}
	}
	if machine.DeletionTimestamp != nil {
		return field.ErrorList{field.Forbidden(name, fmt.Sprintf("%s is being deleted", machine.Name))}
	}
	var replaced *v1alpha2.VirtualMachineOperation
	for _, other := range active {
		if !operations.Supersedes(operation, other) {
			return field.ErrorList{field.Forbidden(kind, fmt.Sprintf(
				"%s %s of %s has not ended: wait for it, or delete it to cancel it", other.Spec.Type, other.Name, machine.Name))}
		}
		replaced = other
	}
	if refused := operations.Judge(operation, machine, replaced); !refused.IsZero() {
		if refused.Reason == v1alpha2.ReasonNotApplicableForLiveMigrationPolicy {
			kind = field.NewPath("spec", "force")
		}
		return field.ErrorList{field.Forbidden(kind, refused.Message)}
	}
	return checkMovable(operation, machine)
}

// checkMovable tells at once what a migration would fail with.
func checkMovable(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine) field.ErrorList {
	if !operations.IsMigration(operation.Spec.Type) {
		return nil
	}
	condition := meta.FindStatusCondition(machine.Status.Conditions, v1alpha2.ConditionMigratable)
	if condition == nil || condition.Status != metav1.ConditionFalse {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "type"), fmt.Sprintf("%s cannot be moved: %s", machine.Name, condition.Message))}
}
