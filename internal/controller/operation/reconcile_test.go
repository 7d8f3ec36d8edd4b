// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
)

// stage runs the reconciler against a fake API server in which writes to the engine
// can be made to fail.
type stage struct {
	t      *testing.T
	client client.Client
	r      *reconciler
	// deny is the answer to writes to the engine's objects.
	deny error
	// graces are the times that deleted pods were given.
	graces []int64
	events *record.FakeRecorder
}

func newStage(t *testing.T, o Observed, more ...client.Object) *stage {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, virtv1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	s := &stage{t: t, events: record.NewFakeRecorder(20)}
	o.Engine.ResourceVersion = ""
	objects := append([]client.Object{o.Operation, o.Machine, o.Engine}, more...)
	if o.Guest != nil {
		objects = append(objects, o.Guest)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha2.VirtualMachineOperation{}, &virtv1.VirtualMachine{}).
		WithIndex(&v1alpha2.VirtualMachineOperation{}, operations.ByMachine, operations.Machines).
		WithIndex(&virtv1.VirtualMachineInstanceMigration{}, indexMigrations, movedGuests).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, name string, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				if _, ok := object.(*virtv1.VirtualMachine); ok && s.deny != nil {
					return s.deny
				}
				return c.SubResource(name).Patch(ctx, object, patch, opts...)
			},
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				if s.deny != nil {
					return s.deny
				}
				return c.Create(ctx, object, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.DeleteOption) error {
				applied := client.DeleteOptions{}
				applied.ApplyOptions(opts)
				if _, ok := object.(*corev1.Pod); ok {
					s.graces = append(s.graces, ptr.Deref(applied.GracePeriodSeconds, -1))
				}
				return c.Delete(ctx, object, opts...)
			},
		})
	for _, index := range writers.Indexes() {
		builder = builder.WithIndex(index.Object, index.Name, index.Keys)
	}
	s.client = builder.Build()
	s.r = &reconciler{
		Executor: shared.Executor{Client: s.client, Recorder: s.events},
		direct:   s.client, clock: clocktesting.NewFakePassiveClock(now), writers: writers.NewLedger(s.client),
	}
	s.r.main = s.r.newLoop("")
	return s
}

func (s *stage) reconcile() (*v1alpha2.VirtualMachineOperation, error) {
	s.t.Helper()
	key := client.ObjectKey{Namespace: "team", Name: "op"}
	_, err := s.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
	operation := &v1alpha2.VirtualMachineOperation{}
	if getErr := s.client.Get(context.Background(), key, operation); getErr != nil {
		s.t.Fatal(getErr)
	}
	return operation, err
}

// told lists the events so far.
func (s *stage) told() []string {
	var out []string
	for len(s.events.Events) > 0 {
		out = append(out, <-s.events.Events)
	}
	return out
}

func refusal(text string) error {
	return apierrors.NewForbidden(virtv1.Resource("virtualmachines"), "web", errors.New(text))
}

// A failed execution is Failed and stays so, whatever comes after.
func TestARefusedOrderFailsOnce(t *testing.T) {
	for kind, want := range map[v1alpha2.OperationType]string{
		"Restart": `False/SignalSentError: the engine refuses the order: virtualmachines.kubevirt.io "web" is forbidden: not today.`,
		"Migrate": `False/SignalSentError: the engine refuses to move the guest: virtualmachines.kubevirt.io "web" is forbidden: not today.`,
	} {
		t.Run(string(kind), func(t *testing.T) {
			s := newStage(t, observation(kind))
			s.deny = refusal("not today")
			var operation *v1alpha2.VirtualMachineOperation
			for range 3 {
				var err error
				if operation, err = s.reconcile(); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				if operation.Status.Phase != "Failed" || condition(operation, "Completed") != want || condition(operation, "SignalSent") != want {
					t.Errorf("%s, %s, %s", operation.Status.Phase, condition(operation, "Completed"), condition(operation, "SignalSent"))
				}
				s.deny = nil
				var err error
				if operation, err = s.reconcile(); err != nil {
					t.Fatal(err)
				}
			}
			failures := slices.DeleteFunc(s.told(), func(event string) bool { return !strings.HasPrefix(event, "Warning SignalSentError ") })
			if len(failures) != 1 {
				t.Errorf("%d events tell of it", len(failures))
			}
			if len(operation.Finalizers) > 0 {
				t.Errorf("held by %v", operation.Finalizers)
			}
		})
	}
}

// An order that could not be given for now is given again; the status is not ahead.
func TestAnOrderIsRetried(t *testing.T) {
	s := newStage(t, observation("Restart", begun("first")))
	s.deny = errors.New("connection refused")
	operation, err := s.reconcile()
	if err == nil || operation.Status.Phase != "InProgress" || condition(operation, "SignalSent") != "" {
		t.Errorf("%v, %s, SignalSent %s", err, operation.Status.Phase, condition(operation, "SignalSent"))
	}
	s.deny = nil
	operation, err = s.reconcile()
	if err != nil || condition(operation, "SignalSent") != "True/SignalSentSuccess: The order was given." {
		t.Errorf("%v, SignalSent %s", err, condition(operation, "SignalSent"))
	}
	engine := &virtv1.VirtualMachine{}
	if err := s.client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "web"}, engine); err != nil {
		t.Fatal(err)
	}
	if got := engine.Status.StateChangeRequests; len(got) != 2 || got[0].Action != "Stop" || *got[0].UID != "first" || got[1].Action != "Start" {
		t.Errorf("requests %+v", got)
	}
}

// The engine refuses a second migration of a guest; that is no failure when the first
// one is not in the cache yet, but a reason to wait.
func TestARefusedMigrationThatOnlyHasToWait(t *testing.T) {
	other := &virtv1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "other"},
		Spec:       virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"},
	}
	s := newStage(t, observation("Migrate"))
	s.deny = refusal("in-flight migration detected")
	s.r.direct = fake.NewClientBuilder().WithScheme(s.client.Scheme()).WithObjects(other).Build()
	operation, err := s.reconcile()
	if err != nil || operation.Status.Phase != "Pending" {
		t.Errorf("%v, %s", err, operation.Status.Phase)
	}
	if got, want := condition(operation, "Completed"), "False/OtherMigrationInProgress: The machine is already being moved by other; this operation comes after it."; got != want {
		t.Errorf("Completed: %s", got)
	}
}

// A migration that the cache does not show yet is not taken for lost.
func TestAMigrationIsLookedForOnTheServer(t *testing.T) {
	o := observation("Migrate", sent("", time.Second), migration(virtv1.MigrationPending))
	own := o.Migration
	own.OwnerReferences = []metav1.OwnerReference{{APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualMachineOperation", Name: "op", UID: "uid-of-op"}}
	o.Migration = nil
	s := newStage(t, o)
	s.r.direct = fake.NewClientBuilder().WithScheme(s.client.Scheme()).WithObjects(own).Build()
	operation, err := s.reconcile()
	if err != nil || operation.Status.Phase != "InProgress" {
		t.Errorf("%v, %s: %s", err, operation.Status.Phase, condition(operation, "Completed"))
	}
	s.r.direct = s.client
	if operation, err = s.reconcile(); err != nil || operation.Status.Phase != "Failed" {
		t.Errorf("%v, %s: %s", err, operation.Status.Phase, condition(operation, "Completed"))
	}
}

func TestForcedPodsGetASecond(t *testing.T) {
	o := observation("Stop", sent("first", time.Second), force, machineIs("Stopping"), guestGoes, asked(stopFirst()))
	o.Guest.Finalizers = []string{"kubevirt.io/held"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "team", Name: "launcher", Labels: map[string]string{"kubevirt.io/created-by": "first"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o.Guest, virtv1.VirtualMachineInstanceGroupVersionKind)},
	}}
	s := newStage(t, o, pod)
	if _, err := s.reconcile(); err != nil {
		t.Fatal(err)
	}
	if len(s.graces) != 1 || s.graces[0] != 1 {
		t.Errorf("graces %v", s.graces)
	}
}

func TestWhatBelongsToAMachine(t *testing.T) {
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "1"}}
	launcher := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(guest, virtv1.VirtualMachineInstanceGroupVersionKind)}}}
	move := &virtv1.VirtualMachineInstanceMigration{Spec: virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"}}
	order := &v1alpha2.VirtualMachineOperation{Spec: v1alpha2.VirtualMachineOperationSpec{VirtualMachineName: "web"}}
	if shared.GuestOfPod(launcher) != "web" || guestOfMigration(move) != "web" || machineOfOperation(order) != "web" {
		t.Error("an object is not of its machine")
	}
	if shared.GuestOfPod(&corev1.Pod{}) != "" || guestOfMigration(order) != "" || machineOfOperation(move) != "" {
		t.Error("an object is of a machine that it does not belong to")
	}
}
