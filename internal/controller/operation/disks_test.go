// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// withDisk is rendered with a claim that it writes to.
func withDisk(o *Observed) {
	source := &virtv1.PersistentVolumeClaimVolumeSource{}
	source.ClaimName = "root"
	o.Engine.Spec.Template = &virtv1.VirtualMachineInstanceTemplateSpec{Spec: virtv1.VirtualMachineInstanceSpec{
		Volumes: []virtv1.Volume{{Name: "vd-root", VolumeSource: virtv1.VolumeSource{PersistentVolumeClaim: source}}},
	}}
}

// isOff is a machine without a guest, whose operation was noted.
func isOff(o *Observed) {
	machineIs("Stopped")(o)
	noGuest(o)
	begun("")(o)
}

func guestOf(name string, o Observed) *virtv1.VirtualMachineInstance {
	return &virtv1.VirtualMachineInstance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec:       o.Engine.Spec.Template.Spec, Status: virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running},
	}
}

func (s *stage) requests() []virtv1.VirtualMachineStateChangeRequest {
	s.t.Helper()
	engine := &virtv1.VirtualMachine{}
	if err := s.client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "web"}, engine); err != nil {
		s.t.Fatal(err)
	}
	return engine.Status.StateChangeRequests
}

const taken = "False/BlockDevicesNotReady: web cannot be started with its block devices: " +
	"VirtualMachine team/twin has one of them: stop that machine or use another disk."

// Another machine took the disk while this one was off, and nobody has told the machine
// yet.
func TestAStartDoesNotShareADisk(t *testing.T) {
	for name, changes := range map[string][]change{
		"when it begins":          {withDisk, machineIs("Stopped"), noGuest},
		"when the order is given": {withDisk, isOff},
	} {
		o := observation("Start", changes...)
		s := newStage(t, o, guestOf("twin", o))
		operation, err := s.reconcile()
		if err != nil || operation.Status.Phase != "Failed" || condition(operation, "Completed") != taken {
			t.Errorf("%s: %v, %s, %s", name, err, operation.Status.Phase, condition(operation, "Completed"))
		}
		if requests := s.requests(); len(requests) > 0 {
			t.Errorf("%s: the engine was asked for %+v", name, requests)
		}
	}
}

// Two machines with one disk are started in the same moment, and the cache does not
// show either of them yet: the second waits for what becomes of the first.
func TestOnlyOneStartTakesADisk(t *testing.T) {
	o := observation("Start", withDisk, isOff)
	s := newStage(t, o)
	s.r.writers.Reserve(client.ObjectKey{Namespace: "team", Name: "twin"}, []string{"root"}, now.Add(-time.Second))
	key := client.ObjectKeyFromObject(o.Operation)
	if result, err := s.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err != nil || result.RequeueAfter != 5*time.Second {
		t.Errorf("%v, %+v", err, result)
	}
	if requests := s.requests(); len(requests) > 0 {
		t.Errorf("the engine was asked for %+v", requests)
	}
	again := observation("Start", withDisk, isOff)
	s = newStage(t, again, guestOf("twin", again))
	ended, err := s.reconcile()
	if err != nil || ended.Status.Phase != "Failed" || condition(ended, "Completed") != taken {
		t.Errorf("%v, %s, %s", err, ended.Status.Phase, condition(ended, "Completed"))
	}
}

// A machine that nobody is in the way of takes its disks with the order.
func TestAStartTakesItsDisks(t *testing.T) {
	s := newStage(t, observation("Start", withDisk, isOff))
	if _, err := s.reconcile(); err != nil || len(s.requests()) != 1 {
		t.Fatalf("%v, requests %+v", err, s.requests())
	}
	if held := s.r.writers.Reserve(client.ObjectKey{Namespace: "team", Name: "twin"}, []string{"root"}, now); held["root"] != "web" {
		t.Errorf("the disk is held by %v", held)
	}
}

// Whoever has the disk already, or gives no order to start, is asked nothing.
func TestWhoIsNotAskedForDisks(t *testing.T) {
	for name, o := range map[string]Observed{
		"a restart of what runs": observation("Restart", withDisk, begun("first")),
		"a stop":                 observation("Stop", withDisk, begun("first")),
		"an order that is given": observation("Start", withDisk, isOff, sent("", time.Second)),
	} {
		s := newStage(t, o, guestOf("twin", o))
		operation, err := s.reconcile()
		if err != nil || operation.Status.Phase == v1alpha2.OperationFailed {
			t.Errorf("%s: %v, %s", name, err, condition(operation, "Completed"))
		}
	}
	both := observation("Start", withDisk, isOff, func(o *Observed) { o.Taken = map[string]string{"root": "twin", "data": "twin", "logs": "db"} })
	if got := judgeDisks(both); !strings.Contains(got, "VirtualMachine team/db, twin has one of them") {
		t.Errorf("message %q", got)
	}
}
