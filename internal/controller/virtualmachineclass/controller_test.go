// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

func machineOf(class string) *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
		Spec:       v1alpha2.VirtualMachineSpec{VirtualMachineClassName: class},
	}
}

func TestMachinesTellOnlyTheirClass(t *testing.T) {
	if got := classOf(machineOf("")); got != nil {
		t.Errorf("a machine without a class is indexed by %q", got)
	}
	if got := classOf(&corev1.Node{}); got != nil {
		t.Errorf("a node is indexed by %q", got)
	}
	requests := mapMachine(context.Background(), machineOf("generic"))
	if len(requests) != 1 || requests[0].Name != "generic" || requests[0].Namespace != "" {
		t.Errorf("requests: %v", requests)
	}
	changed := namesChange()
	if changed.Update(event.UpdateEvent{ObjectOld: machineOf("generic"), ObjectNew: machineOf("generic")}) {
		t.Error("a machine that keeps its class is no news")
	}
	if !changed.Update(event.UpdateEvent{ObjectOld: machineOf("generic"), ObjectNew: machineOf("other")}) {
		t.Error("a machine that changes its class is news")
	}
}

func TestHeartbeatsOfNodesAreNoNews(t *testing.T) {
	before := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"zone": "a"}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")}},
	}
	matters := nodeMatters()
	same := before.DeepCopy()
	same.ResourceVersion = "2"
	same.Status.Allocatable["cpu"] = resource.MustParse("4000m")
	if matters.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: same}) {
		t.Error("nothing that matters was changed")
	}
	relabelled := before.DeepCopy()
	relabelled.Labels["zone"] = "b"
	grown := before.DeepCopy()
	grown.Status.Allocatable["cpu"] = resource.MustParse("5")
	without := before.DeepCopy()
	without.Status.Capacity = corev1.ResourceList{"devices.kubevirt.io/kvm": resource.MustParse("0")}
	for name, after := range map[string]*corev1.Node{"label": relabelled, "resources": grown, "devices": without} {
		if !matters.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}) {
			t.Errorf("a change of the %s was overlooked", name)
		}
	}
	if matters.Update(event.UpdateEvent{ObjectOld: before, ObjectNew: &corev1.Pod{}}) {
		t.Error("a pod is no node")
	}
}

// Each machine that is made brings its class back, so that the class must not go
// through all of them each time.
func TestObserveLooksForOneMachineUntilTheClassGoes(t *testing.T) {
	var limit int64
	objects := []client.Object{machineOf("generic"), machineOf("generic"), machineOf("other")}
	for i, name := range []string{"web", "db", "api"} {
		objects[i].SetName(name)
	}
	c := fake.NewClientBuilder().WithScheme(apiserver.Scheme()).WithObjects(objects...).
		WithIndex(&v1alpha2.VirtualMachine{}, indexMachineClass, classOf).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if _, machines := list.(*v1alpha2.VirtualMachineList); machines {
					limit = (&client.ListOptions{}).ApplyOptions(opts).Limit
				}
				return c.List(ctx, list, opts...)
			},
		}).Build()
	r := &observer{reader: c, clock: clocktesting.NewFakePassiveClock(now)}
	class := &v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{Name: "generic"}}
	if _, err := r.observe(t.Context(), class); err != nil || limit != 1 {
		t.Errorf("asks for %d machines, %v", limit, err)
	}
	class.DeletionTimestamp = &metav1.Time{Time: now}
	o, err := r.observe(t.Context(), class)
	if err != nil || limit != 0 || fmt.Sprint(o.Machines) != "[team/db team/web]" {
		t.Errorf("asks for %d machines and finds %v, %v", limit, o.Machines, err)
	}
}
