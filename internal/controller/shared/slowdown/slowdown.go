// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package slowdown tells the engine whether the migrations of a guest may slow it down to come to an end. KubeVirt has
// that per label of a guest only, not per migration: an operation sets the label for its own migration, and the
// controller convergence for those that the engine begins by itself.
package slowdown

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

// The label by which the engine finds its policy for a guest.
const (
	label   = v1alpha2.GroupName + "/migration"
	allowed = "forced"
)

// policyName is the engine's policy for the guests with that label.
const policyName = "d8-virtualization-forced"

// IsAllowed tells whether a migration may slow the guest down: the machine's policy decides, or leaves it to the force
// of an operation, which is nil for a migration that the engine begins by itself.
func IsAllowed(policy v1alpha2.LiveMigrationPolicy, force *bool) bool {
	switch policy {
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

// IsSet tells what the engine goes by at this moment.
func IsSet(guest *virtv1.VirtualMachineInstance) bool { return guest.Labels[label] == allowed }

// Set changes what the engine goes by, from the guest's next migration on. The write is bound to what was seen of the
// guest: an operation and the machine's own policy may want different things a moment apart, and then a conflict says
// that there is a newer decision.
func Set(ctx context.Context, writer client.Client, guest *virtv1.VirtualMachineInstance, allow bool) error {
	var value any
	if allow {
		if err := ensurePolicy(ctx, writer); err != nil {
			return err
		}
		value = allowed
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": guest.UID, "resourceVersion": guest.ResourceVersion, "labels": map[string]any{label: value},
	}})
	if err != nil {
		return fmt.Errorf("encoding a label: %w", err)
	}
	target := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: guest.Namespace, Name: guest.Name}}
	return writer.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(shared.FieldManager))
}

// ensurePolicy makes the engine's policy when it is first needed: its kind comes with
// the engine, so that the module's installation cannot bring it.
func ensurePolicy(ctx context.Context, writer client.Client) error {
	policy := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "migrations.kubevirt.io/v1alpha1",
		"kind":       "MigrationPolicy",
		"metadata":   map[string]any{"name": policyName},
		"spec": map[string]any{
			"allowAutoConverge": true,
			"selectors":         map[string]any{"virtualMachineInstanceSelector": map[string]any{label: allowed}},
		},
	}}
	policy.SetLabels(shared.ChildLabels())
	if err := writer.Create(ctx, policy, client.FieldOwner(shared.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating MigrationPolicy %s: %w", policyName, err)
	}
	return nil
}
