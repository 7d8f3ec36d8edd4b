// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"testing"

	"k8s.io/client-go/util/workqueue"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Nodes tell every few seconds that they are well, and guests change for reasons that
// are not ours.
func TestOnlyNewsLeadToAComparison(t *testing.T) {
	version := func(object client.Object, version string) client.Object {
		object.SetResourceVersion(version)
		return object
	}
	moved := guest("web", "node-1")
	moved.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{TargetNode: "node-2"}
	for _, tc := range []struct {
		title         string
		before, after client.Object
		want          bool
	}{
		{"a heartbeat", version(node("a", "10.77.0.1"), "1"), version(node("a", "10.77.0.1"), "2"), false},
		{"an address", node("a"), node("a", "10.77.0.1"), true},
		{"a guest as before", version(guest("web", "node-1"), "1"), version(guest("web", "node-1"), "2"), false},
		{"a guest elsewhere", guest("web", "node-1"), guest("web", "node-2"), true},
		{"a guest that moves", guest("web", "node-1"), moved, true},
		{"a machine's address", machine("web", ""), machine("web", "10.66.10.5"), true},
		{"CiliumNode", ciliumNodeOf("a", "10.244.1.1"), ciliumNodeOf("a", "10.244.1.2"), true},
		{"CiliumNode as before", version(ciliumNodeOf("a", "10.244.1.1"), "1"), version(ciliumNodeOf("a", "10.244.1.1"), "2"), false},
	} {
		if got := factsChanged().Update(event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.after}); got != tc.want {
			t.Errorf("%s: %v", tc.title, got)
		}
	}
	if got := factsChanged(); !got.Create(event.CreateEvent{Object: node("a")}) || !got.Delete(event.DeleteEvent{Object: node("a")}) {
		t.Error("what comes or goes is always news")
	}
}

func newQueue(t *testing.T) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	t.Helper()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(queue.ShutDown)
	return queue
}

// A dozen changes of the kernel at once are one request.
func TestKernelSourceGathersChanges(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	queue := newQueue(t)
	events := func(ctx context.Context, changed func()) error {
		for range 12 {
			changed()
		}
		<-ctx.Done()
		return nil
	}
	if err := kernelSource(events, func(string, ...any) { t.Error("an error") }).Start(ctx, queue); err != nil {
		t.Fatal(err)
	}
	if got, _ := queue.Get(); got != everything {
		t.Errorf("got %v", got)
	}
	queue.Done(everything)
	if queue.Len() != 0 {
		t.Errorf("%d more", queue.Len())
	}
}

// What happened while nobody listened is looked for.
func TestKernelSourceThatBreaks(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	queue, logged := newQueue(t), make(chan string, 1)
	events := func(context.Context, func()) error { return errors.New("no buffer space") }
	if err := kernelSource(events, func(message string, _ ...any) { logged <- message }).Start(ctx, queue); err != nil {
		t.Fatal(err)
	}
	if got := <-logged; got != "watching the kernel's routes" {
		t.Errorf("logged %q", got)
	}
	if got, _ := queue.Get(); got != everything {
		t.Errorf("got %v", got)
	}
}
