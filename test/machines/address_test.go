// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func (w *world) claim(name, static string) *v1alpha2.VirtualMachineIPAddress {
	claim := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
	}
	if static != "" {
		claim.Spec = v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: static}
	}
	return claim
}

func (w *world) waitForBound(claim *v1alpha2.VirtualMachineIPAddress, reason string) {
	w.t.Helper()
	wait(w, claim, "Bound/"+reason, func(c *v1alpha2.VirtualMachineIPAddress) bool {
		condition := meta.FindStatusCondition(c.Status.Conditions, "Bound")
		return condition != nil && condition.Reason == reason
	})
}

func leaseOf(address string) *v1alpha2.VirtualMachineIPAddressLease {
	return &v1alpha2.VirtualMachineIPAddressLease{ObjectMeta: metav1.ObjectMeta{Name: "ip-" + strings.ReplaceAll(address, ".", "-")}}
}

// Many claims at once, with one lease that nobody knew of: each gets an address of
// its own.
func TestClaimsGetDistinctAddresses(t *testing.T) {
	w := newWorld(t, "10.66.30.0/26")
	const count = 40
	for i := range count {
		w.create(w.claim(fmt.Sprintf("claim-%d", i), ""))
	}
	seen := map[string]string{}
	for i := range count {
		claim := w.claim(fmt.Sprintf("claim-%d", i), "")
		w.waitForBound(claim, "Bound")
		if other, taken := seen[claim.Status.Address]; taken {
			t.Errorf("%s and %s both have %s", other, claim.Name, claim.Status.Address)
		}
		seen[claim.Status.Address] = claim.Name
	}
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := w.client.List(w.ctx, leases); err != nil {
		t.Fatal(err)
	}
	var held int
	for _, lease := range leases.Items {
		if ref := lease.Spec.VirtualMachineIPAddressRef; ref != nil && ref.Namespace == w.namespace {
			held++
		}
	}
	if held != count {
		t.Errorf("%d leases for %d claims", held, count)
	}
}

// A range that is used up is said to be; an address that becomes free is taken at
// once.
func TestExhaustedRange(t *testing.T) {
	w := newWorld(t, "10.66.31.0/30")
	first, second, third := w.claim("first", ""), w.claim("second", ""), w.claim("third", "")
	w.create(first)
	w.waitForBound(first, "Bound")
	w.create(second)
	w.waitForBound(second, "Bound")
	w.create(third)
	w.waitForBound(third, "NoFreeVirtualMachineIPAddress")
	machine := w.machine("web")
	machine.Spec.VirtualMachineIPAddressName = "third"
	w.create(machine)
	w.waitForCondition(machine, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady", "Every address of 10.66.31.0/30 is taken")

	// Released, it is kept for the namespace, which is where the claim waits.
	w.delete(first)
	w.waitForBound(third, "Bound")
	if third.Status.Address != "10.66.31.1" {
		t.Errorf("got %s", third.Status.Address)
	}
}

func TestStaticClaims(t *testing.T) {
	w := newWorld(t, "10.66.32.0/24")
	first, second := w.claim("first", "10.66.32.9"), w.claim("second", "10.66.32.9")
	w.create(first)
	w.waitForBound(first, "Bound")
	w.create(second)
	w.waitForBound(second, "VirtualMachineIPAddressLeaseAlreadyExists")
	outside := w.claim("outside", "10.99.0.1")
	w.create(outside)
	w.waitForBound(outside, "VirtualMachineIPAddressIsOutOfTheValidRange")

	// The namespace gets its released address back without waiting.
	w.delete(first)
	w.waitForBound(second, "Bound")
	lease := leaseOf("10.66.32.9")
	wait(w, lease, "bound again", func(l *v1alpha2.VirtualMachineIPAddressLease) bool {
		return l.Status.Phase == "Bound" && l.Spec.VirtualMachineIPAddressRef.Name == "second"
	})
}

// Claims of IPv6 are as those of IPv4; the lease is named after the address in full.
func TestClaimsOfIPv6(t *testing.T) {
	w := newWorld(t, "fd66:30::/125")
	static := w.claim("static", "fd66:30::6")
	w.create(static)
	w.waitForBound(static, "Bound")
	auto := w.claim("auto", "")
	w.create(auto)
	w.waitForBound(auto, "Bound")
	if auto.Status.Address != "fd66:30::1" {
		t.Errorf("got %s", auto.Status.Address)
	}
	for name, claim := range map[string]string{
		"ip-fd66-0030-0000-0000-0000-0000-0000-0006": "static", "ip-fd66-0030-0000-0000-0000-0000-0000-0001": "auto",
	} {
		lease := &v1alpha2.VirtualMachineIPAddressLease{}
		if err := w.client.Get(w.ctx, client.ObjectKey{Name: name}, lease); err != nil || lease.Spec.VirtualMachineIPAddressRef.Name != claim {
			t.Errorf("%s is of %+v, want %s (%v)", name, lease.Spec.VirtualMachineIPAddressRef, claim, err)
		}
	}
	w.delete(static)
	next := w.claim("next", "fd66:30::6")
	w.create(next)
	w.waitForBound(next, "Bound")
}

// A lease that somebody deletes is made again with the same address.
func TestLostLease(t *testing.T) {
	w := newWorld(t, "10.66.33.0/24")
	machine := w.createRunning("web")
	lease := leaseOf(machine.Status.IPAddress)
	wait(w, lease, "a uid", func(l *v1alpha2.VirtualMachineIPAddressLease) bool { return l.UID != "" })
	uid := lease.UID
	w.delete(lease)
	wait(w, lease, "another uid", func(l *v1alpha2.VirtualMachineIPAddressLease) bool {
		return l.UID != uid && l.Status.Phase == "Bound" && l.Spec.VirtualMachineIPAddressRef.Name == machine.Status.VirtualMachineIPAddressName
	})
}

// A claim of the user survives the machine, keeps its address, and serves the
// next one; while a machine has it, a second machine has to wait.
func TestClaimOfTheUserSurvivesTheMachine(t *testing.T) {
	w := newWorld(t, "10.66.34.0/24")
	claim := w.claim("fixed", "10.66.34.7")
	w.create(claim)
	named := func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineIPAddressName = "fixed" }
	first := w.createRunning("first", named)
	wait(w, claim, "attached", func(c *v1alpha2.VirtualMachineIPAddress) bool {
		return c.Status.Phase == "Attached" && c.Status.VirtualMachineName == "first"
	})

	w.createDisk("second")
	second := w.machine("second")
	named(second)
	w.create(second)
	w.waitForCondition(second, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotAvailable", "is used by VirtualMachine first")

	w.delete(first)
	w.waitGone(first)
	w.waitForPhase(second, "Running")
	if second.Status.IPAddress != "10.66.34.7" {
		t.Errorf("address %s", second.Status.IPAddress)
	}
	w.delete(second)
	w.waitGone(second)
	wait(w, claim, "free", func(c *v1alpha2.VirtualMachineIPAddress) bool {
		return c.Status.Phase == "Bound" && c.Status.VirtualMachineName == ""
	})
}

// A claim in use cannot be deleted from under its machine, and says why.
func TestClaimInUseWaits(t *testing.T) {
	w := newWorld(t, "10.66.35.0/24")
	claim := w.claim("fixed", "")
	w.create(claim)
	machine := w.createRunning("web", func(m *v1alpha2.VirtualMachine) { m.Spec.VirtualMachineIPAddressName = "fixed" })
	w.delete(claim)
	wait(w, claim, "an explanation", func(c *v1alpha2.VirtualMachineIPAddress) bool {
		condition := meta.FindStatusCondition(c.Status.Conditions, "Terminating")
		return condition != nil && strings.Contains(condition.Message, "VirtualMachine "+w.namespace+"/web uses the address")
	})
	time.Sleep(200 * time.Millisecond)
	w.waitForPhase(machine, "Running")
	w.delete(machine)
	w.waitGone(machine, claim)
}

// The lease of a claim that vanished without its finalizer is released.
func TestOrphanedLease(t *testing.T) {
	w := newWorld(t, "10.66.36.0/24")
	claim := w.claim("fixed", "")
	w.create(claim)
	w.waitForBound(claim, "Bound")
	lease := leaseOf(claim.Status.Address)
	update(w, claim, func(c *v1alpha2.VirtualMachineIPAddress) { c.Finalizers = nil })
	w.delete(claim)
	w.waitGone(claim)
	wait(w, lease, "released", func(l *v1alpha2.VirtualMachineIPAddressLease) bool {
		return l.Status.Phase == "Released" && l.Spec.VirtualMachineIPAddressRef.Name == ""
	})
	// Another namespace does not get it yet.
	other := newWorld(t, "10.66.36.0/24")
	foreign := other.claim("theirs", lease.Name[len("ip-"):])
	foreign.Spec.StaticIP = strings.ReplaceAll(foreign.Spec.StaticIP, "-", ".")
	other.create(foreign)
	other.waitForBound(foreign, "VirtualMachineIPAddressLeaseAlreadyExists")
	if err := w.client.Delete(w.ctx, lease, client.Preconditions{UID: &lease.UID}); err != nil {
		t.Fatal(err)
	}
	other.waitForBound(foreign, "Bound")
}
