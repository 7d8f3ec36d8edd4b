// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// labelMigration on a guest chooses the engine's policy for its migration: KubeVirt
// has such settings per label only, not per migration.
const (
	labelMigration = v1alpha2.GroupName + "/migration"
	forcedLabel    = "forced"
)

// policyName is the engine's policy for the guests with that label.
const policyName = "d8-virtualization-forced"

// maySlowDown tells whether the migration may slow the guest down to come to an end: the
// machine's policy decides, or leaves it to the operation.
func maySlowDown(o Observed) bool {
	switch force := o.Operation.Spec.Force; o.Machine.Spec.LiveMigrationPolicy {
	case v1alpha2.LiveMigrationAlwaysSafe:
		return false
	case v1alpha2.LiveMigrationAlwaysForced:
		return true
	case v1alpha2.LiveMigrationPreferForced:
		return ptr.Deref(force, true)
	default:
		return ptr.Deref(force, false)
	}
}

// whatHelps is the remedy for a guest that changes its memory too fast.
func whatHelps(o Observed) string {
	switch {
	case maySlowDown(o):
		return "It is slowed down already; less load in it helps."
	case o.Machine.Spec.LiveMigrationPolicy == v1alpha2.LiveMigrationAlwaysSafe:
		return "Less load in it helps, or another liveMigrationPolicy of the machine than AlwaysSafe."
	}
	return "Repeat the operation with force: true to let it slow the guest down."
}

// labelToSet is what the guest's label has to become before its migration begins; nil
// when it is right.
func labelToSet(o Observed) *bool {
	want := maySlowDown(o)
	if has := o.Guest.Labels[labelMigration] == forcedLabel; has == want {
		return nil
	}
	return &want
}

// setLabel puts the label on the guest, or takes it away.
func (r *reconciler) setLabel(ctx context.Context, guest *virtv1.VirtualMachineInstance, forced bool) error {
	var value any
	if forced {
		if err := r.ensurePolicy(ctx); err != nil {
			return err
		}
		value = forcedLabel
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": guest.UID, "labels": map[string]any{labelMigration: value},
	}})
	if err != nil {
		return fmt.Errorf("encoding a label: %w", err)
	}
	target := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: guest.Namespace, Name: guest.Name}}
	return r.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(shared.FieldManager))
}

// ensurePolicy makes the engine's policy when it is first needed: its kind comes with
// the engine, so that the module's installation cannot bring it.
func (r *reconciler) ensurePolicy(ctx context.Context) error {
	policy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "migrations.kubevirt.io/v1alpha1",
		"kind":       "MigrationPolicy",
		"metadata":   map[string]any{"name": policyName},
		"spec": map[string]any{
			"allowAutoConverge": true,
			"selectors":         map[string]any{"virtualMachineInstanceSelector": map[string]any{labelMigration: forcedLabel}},
		},
	}}
	policy.SetLabels(shared.ChildLabels())
	if err := r.Client.Create(ctx, policy, client.FieldOwner(shared.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating MigrationPolicy %s: %w", policyName, err)
	}
	return nil
}
