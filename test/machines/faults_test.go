// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// writesOfACreation and writesOfADeletion are how many writes there are to break.
const (
	writesOfACreation = 5
	writesOfADeletion = 4
)

// Each write of a machine's creation breaks once, before and after it reached the
// server: the machine runs all the same, and nothing is there twice.
func TestBrokenWritesWhileCreating(t *testing.T) {
	w := newWorld(t, "10.66.40.0/24")
	for _, lost := range []lostPart{lostRequest, lostAnswer} {
		for i := 1; i <= writesOfACreation; i++ {
			name := fmt.Sprintf("%s-%d", lost, i)
			t.Run(name, func(t *testing.T) {
				w.t = t
				w.createDisk(name)
				w.writes.failNext(i, lost)
				machine := w.machine(name)
				w.create(machine)
				w.waitForPhase(machine, "Running")
				expectFaultCame(w)
				expectWhole(w, machine)
			})
		}
	}
}

// expectFaultCame waits for the planned fault: the last writes come a moment after
// what the test has waited for.
func expectFaultCame(w *world) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); w.writes.pending(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the write to break never came: correct the number of writes")
		}
	}
}

// expectWhole checks that a running machine has one of everything.
func expectWhole(w *world, machine *v1alpha2.VirtualMachine) {
	w.t.Helper()
	claims := &v1alpha2.VirtualMachineIPAddressList{}
	if err := w.client.List(w.ctx, claims, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	var claim *v1alpha2.VirtualMachineIPAddress
	for i := range claims.Items {
		if metav1.IsControlledBy(&claims.Items[i], machine) {
			if claim != nil {
				w.t.Errorf("has two claims: %s and %s", claim.Name, claims.Items[i].Name)
			}
			claim = &claims.Items[i]
		}
	}
	if claim == nil || claim.Status.Address != machine.Status.IPAddress || claim.Status.VirtualMachineName != machine.Name {
		w.t.Fatalf("the claim does not fit the machine with %s: %+v", machine.Status.IPAddress, claim)
	}
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := w.client.List(w.ctx, leases, client.MatchingLabels{v1alpha2.LabelVirtualMachineIPAddressUID: string(claim.UID)}); err != nil {
		w.t.Fatal(err)
	}
	if len(leases.Items) != 1 || leases.Items[0].Name != leaseOf(claim.Status.Address).Name {
		w.t.Errorf("%d leases for %s: %+v", len(leases.Items), claim.Status.Address, leases.Items)
	}
	wait(w, w.guest(machine.Name), "its address", func(g *virtv1.VirtualMachineInstance) bool {
		return g.Annotations[v1alpha2.AnnotationCiliumIPAddress] == machine.Status.IPAddress
	})
	if len(machine.Finalizers) != 1 {
		w.t.Errorf("finalizers %v", machine.Finalizers)
	}
}

// The same for a deletion: nothing stays behind.
func TestBrokenWritesWhileDeleting(t *testing.T) {
	w := newWorld(t, "10.66.41.0/24")
	for _, lost := range []lostPart{lostRequest, lostAnswer} {
		for i := 1; i <= writesOfADeletion; i++ {
			name := fmt.Sprintf("%s-%d", lost, i)
			t.Run(name, func(t *testing.T) {
				w.t = t
				machine := w.createRunning(name)
				claim := w.claim(machine.Status.VirtualMachineIPAddressName, "")
				lease := leaseOf(machine.Status.IPAddress)
				w.writes.failNext(i, lost)
				w.delete(machine)
				w.waitGone(machine, w.engineMachine(name), w.guest(name), claim)
				wait(w, lease, "released", func(l *v1alpha2.VirtualMachineIPAddressLease) bool { return l.Status.Phase == "Released" })
				expectFaultCame(w)
			})
		}
	}
}
