// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package convergence

import (
	"context"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/slowdown"
)

var web = client.ObjectKey{Namespace: "team", Name: "web"}

// world is the loop on a server that holds what was observed; it counts the patches.
func world(t *testing.T, o Observed) (run func() error, server client.Client, patches *int) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	patches = new(int)
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(o.Machine).
		WithIndex(&v1alpha2.VirtualMachineOperation{}, operations.ByMachine, operations.Machines).
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, opts ...client.PatchOption) error {
				*patches++
				return c.Patch(ctx, object, patch, opts...)
			},
		})
	if o.Guest != nil {
		builder.WithObjects(o.Guest)
	}
	for i := range o.Operations {
		builder.WithObjects(&o.Operations[i])
	}
	server = builder.Build()
	r := newLoop(shared.Executor{Client: server, Recorder: record.NewFakeRecorder(10)})
	return func() error {
		_, err := r.Reconcile(context.Background(), ctrl.Request{NamespacedName: web})
		return err
	}, server, patches
}

// The engine is told once, and again when the policy changes.
func TestReconcile(t *testing.T) {
	run, server, patches := world(t, observation("AlwaysForced", ordered("Migrate", "Completed")))
	expect := func(allowed bool, written int) {
		t.Helper()
		if err := run(); err != nil {
			t.Fatal(err)
		}
		guest := &virtv1.VirtualMachineInstance{}
		if err := server.Get(context.Background(), web, guest); err != nil {
			t.Fatal(err)
		}
		if slowdown.IsSet(guest) != allowed || *patches != written {
			t.Errorf("labels %v after %d writes", guest.Labels, *patches)
		}
	}
	expect(true, 1)
	expect(true, 1)
	machine := &v1alpha2.VirtualMachine{}
	if err := server.Get(context.Background(), web, machine); err != nil {
		t.Fatal(err)
	}
	machine.Spec.LiveMigrationPolicy = "PreferSafe"
	if err := server.Update(context.Background(), machine); err != nil {
		t.Fatal(err)
	}
	expect(false, 2)
	expect(false, 2)
}

func TestReconcileWithoutGuest(t *testing.T) {
	run, _, patches := world(t, observation("AlwaysForced", func(o *Observed) { o.Guest = nil }))
	if err := run(); err != nil || *patches != 0 {
		t.Errorf("%v, %d writes", err, *patches)
	}
}

// A guest that goes between the look at it and the write is no error.
func TestTheGuestGoesMeanwhile(t *testing.T) {
	o := observation("AlwaysForced")
	_, server, _ := world(t, o)
	if err := server.Delete(context.Background(), o.Guest); err != nil {
		t.Fatal(err)
	}
	actions := plan(server, o).Actions
	if len(actions) != 1 {
		t.Fatalf("%d actions", len(actions))
	}
	if err := actions[0].Run(context.Background()); err != nil {
		t.Error(err)
	}
}

// What wakes the machine is what the decision looks at.
func TestWhatWakes(t *testing.T) {
	before, after := observation("PreferSafe", ordered("Evict", "InProgress")), observation("PreferSafe", ordered("Evict", "InProgress"))
	woken := func() map[string]bool {
		return map[string]bool{
			"machine":   shared.Changed(policyOf).Update(event.UpdateEvent{ObjectOld: before.Machine, ObjectNew: after.Machine}),
			"guest":     shared.Changed(isSet).Update(event.UpdateEvent{ObjectOld: before.Guest, ObjectNew: after.Guest}),
			"operation": shared.Changed(isFinished).Update(event.UpdateEvent{ObjectOld: &before.Operations[0], ObjectNew: &after.Operations[0]}),
		}
	}
	after.Machine.Status.Phase, after.Guest.Status.Phase, after.Operations[0].Status.Progress = "Stopped", "Failed", "50%"
	for what, is := range woken() {
		if is {
			t.Errorf("%s: woken without need", what)
		}
	}
	after.Machine.Spec.LiveMigrationPolicy, after.Operations[0].Status.Phase = "AlwaysForced", "Failed"
	labelled(&after)
	for what, is := range woken() {
		if !is {
			t.Errorf("%s: not woken", what)
		}
	}
}
