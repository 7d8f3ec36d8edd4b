// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package slowdown

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestIsAllowed(t *testing.T) {
	tests := map[v1alpha2.LiveMigrationPolicy]struct{ unset, yes, no bool }{
		"":             {false, true, false},
		"PreferSafe":   {false, true, false},
		"AlwaysSafe":   {false, false, false},
		"PreferForced": {true, true, false},
		"AlwaysForced": {true, true, true},
	}
	for policy, want := range tests {
		for force, expected := range map[*bool]bool{nil: want.unset, ptr.To(true): want.yes, ptr.To(false): want.no} {
			if got := IsAllowed(policy, force); got != expected {
				t.Errorf("%s with force %v: %t", policy, force, got)
			}
		}
	}
}

// server is a fake API server with one guest.
func server(t *testing.T) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := virtv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(&virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{
		Namespace: "team", Name: "web", UID: "guest", Labels: map[string]string{"user": "own"},
	}}).Build()
}

func read(t *testing.T, reader client.Client) *virtv1.VirtualMachineInstance {
	t.Helper()
	guest := &virtv1.VirtualMachineInstance{}
	if err := reader.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "web"}, guest); err != nil {
		t.Fatal(err)
	}
	return guest
}

// The engine finds a policy that lets it slow the guests with the label down, and the
// guest's other labels stay.
func TestSet(t *testing.T) {
	ctx, api := context.Background(), server(t)
	for _, allow := range []bool{true, true, false} {
		if err := Set(ctx, api, read(t, api), allow); err != nil {
			t.Fatal(err)
		}
		guest := read(t, api)
		if IsSet(guest) != allow || guest.Labels["user"] != "own" {
			t.Errorf("%t: labels %v", allow, guest.Labels)
		}
		if value, there := guest.Labels["virtualization.deckhouse.io/migration"]; there != allow || (there && value != "forced") {
			t.Errorf("%t: label %q", allow, value)
		}
	}
	policy := &unstructured.Unstructured{}
	policy.SetAPIVersion("migrations.kubevirt.io/v1alpha1")
	policy.SetKind("MigrationPolicy")
	if err := api.Get(ctx, client.ObjectKey{Name: "d8-virtualization-forced"}, policy); err != nil {
		t.Fatal(err)
	}
	if converge, _, _ := unstructured.NestedBool(policy.Object, "spec", "allowAutoConverge"); !converge {
		t.Errorf("policy %v", policy.Object)
	}
	chosen, _, _ := unstructured.NestedStringMap(policy.Object, "spec", "selectors", "virtualMachineInstanceSelector")
	if len(chosen) != 1 || chosen["virtualization.deckhouse.io/migration"] != "forced" {
		t.Errorf("it is for the guests %v", chosen)
	}
}

// Nothing needs a policy before the first guest may be slowed down.
func TestNoPolicyWithoutNeed(t *testing.T) {
	api := server(t)
	if err := Set(context.Background(), api, read(t, api), false); err != nil {
		t.Fatal(err)
	}
	policies := &unstructured.UnstructuredList{}
	policies.SetAPIVersion("migrations.kubevirt.io/v1alpha1")
	policies.SetKind("MigrationPolicyList")
	if err := api.List(context.Background(), policies); err == nil && len(policies.Items) != 0 {
		t.Errorf("policies %v", policies.Items)
	}
}

// Of two decisions that were made from the same guest only the first one counts.
func TestSetFromAnOldGuest(t *testing.T) {
	ctx, api := context.Background(), server(t)
	seen := read(t, api)
	if err := Set(ctx, api, seen, true); err != nil {
		t.Fatal(err)
	}
	if err := Set(ctx, api, seen, false); !apierrors.IsConflict(err) {
		t.Errorf("error %v", err)
	}
	if !IsSet(read(t, api)) {
		t.Error("the newer decision is gone")
	}
}
