// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestMaySlowDown(t *testing.T) {
	tests := map[v1alpha2.LiveMigrationPolicy]struct{ unset, yes, no bool }{
		"":             {false, true, false},
		"PreferSafe":   {false, true, false},
		"AlwaysSafe":   {false, false, false},
		"PreferForced": {true, true, false},
		"AlwaysForced": {true, true, true},
	}
	for policy, want := range tests {
		for force, expected := range map[*bool]bool{nil: want.unset, ptr.To(true): want.yes, ptr.To(false): want.no} {
			o := observation("Migrate", func(o *Observed) { o.Machine.Spec.LiveMigrationPolicy, o.Operation.Spec.Force = policy, force })
			if got := maySlowDown(o); got != expected {
				t.Errorf("%s with force %v: %t", policy, force, got)
			}
		}
	}
}

// The remedy for a migration that does not converge is one that would be accepted.
func TestWhatHelps(t *testing.T) {
	for want, o := range map[string]Observed{
		"Repeat the operation with force: true to let it slow the guest down.": observation("Migrate"),
		"It is slowed down already; less load in it helps.":                    observation("Migrate", force),
		"Less load in it helps, or another liveMigrationPolicy of the machine than AlwaysSafe.": observation("Migrate", func(o *Observed) {
			o.Machine.Spec.LiveMigrationPolicy = "AlwaysSafe"
		}),
	} {
		if got := whatHelps(o); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The guest is labelled before its migration begins, and the label does not outlive
// the wish.
func TestForcedMigration(t *testing.T) {
	s := newStage(t, observation("Migrate", force))
	operation, err := s.reconcile()
	if err != nil || operation.Status.Phase != "Pending" || condition(operation, "Completed") != "False/MigrationPending: The migration is being prepared." {
		t.Fatalf("%v, %s, %s", err, operation.Status.Phase, condition(operation, "Completed"))
	}
	guest := &virtv1.VirtualMachineInstance{}
	if err := s.client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "web"}, guest); err != nil {
		t.Fatal(err)
	}
	if got := guest.Labels["virtualization.deckhouse.io/migration"]; got != "forced" {
		t.Errorf("label %q", got)
	}
	policy := &unstructured.Unstructured{}
	policy.SetAPIVersion("migrations.kubevirt.io/v1alpha1")
	policy.SetKind("MigrationPolicy")
	if err := s.client.Get(context.Background(), client.ObjectKey{Name: "d8-virtualization-forced"}, policy); err != nil {
		t.Fatal(err)
	}
	if allowed, _, _ := unstructured.NestedBool(policy.Object, "spec", "allowAutoConverge"); !allowed {
		t.Errorf("policy %v", policy.Object)
	}
	if operation, err = s.reconcile(); err != nil || operation.Status.Phase != "InProgress" {
		t.Errorf("%v, %s", err, operation.Status.Phase)
	}

	gentle := decide(observation("Migrate", func(o *Observed) { o.Guest.Labels = guest.Labels }))
	if gentle.order == nil || gentle.order.slowDown == nil || *gentle.order.slowDown || len(gentle.Create) > 0 {
		t.Errorf("order %+v", gentle.order)
	}
}
