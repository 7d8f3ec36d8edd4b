// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// An operation's force counts where the machine's policy leaves it a choice.
func TestMaySlowDown(t *testing.T) {
	for policy, want := range map[v1alpha2.LiveMigrationPolicy]bool{"PreferSafe": true, "AlwaysSafe": false} {
		o := observation("Migrate", force, func(o *Observed) { o.Machine.Spec.LiveMigrationPolicy = policy })
		if got := maySlowDown(o); got != want {
			t.Errorf("%s: %t", policy, got)
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
