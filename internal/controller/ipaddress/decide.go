// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// Observed is what the decision about a claim sees.
type Observed struct {
	Claim *v1alpha2.VirtualMachineIPAddress
	// Machines are those that use the claim or want to, the oldest first.
	Machines []v1alpha2.VirtualMachine
	// Held are the leases that name the claim, sorted by name. There is one
	// unless something went wrong.
	Held []v1alpha2.VirtualMachineIPAddressLease
	// Taken tells who has the addresses that the claim asks for (see asksFor).
	Taken map[netip.Addr]ipam.Holder
	// HasFree tells whether the pool has a free address. When it has none, Released
	// are those of its addresses that are kept for the claim's namespace, and Retry
	// is when to look again although nothing was heard of; zero for never.
	HasFree  bool
	Released []netip.Addr
	Retry    time.Time
	Pool     ipam.Pool
	Now      time.Time
}

// decision is a plan together with the address to lease. While there is one, the
// status is left alone: the event of the lease brings the claim back at once.
type decision struct {
	shared.Plan[*v1alpha2.VirtualMachineIPAddress]
	lease *leaseWish
}

// leaseWish is what to lease.
type leaseWish struct {
	// address is taken if it is valid; otherwise the next free one of the pool.
	address netip.Addr
	// reclaim tells that address has a released lease of the same namespace.
	reclaim bool
}

func decide(o Observed) decision {
	if o.Claim.DeletionTimestamp != nil {
		return decideDeletion(o)
	}
	decided := decideAddress(o)
	decided.FinalizerName, decided.Finalizer = v1alpha2.FinalizerVMIPCleanup, shared.FinalizerAdd
	if decided.Status != nil {
		decided.Events = events(o.Claim, decided.Status)
	}
	return decided
}

func decideAddress(o Observed) decision {
	var (
		decided decision
		held    = pickHeld(o)
		wish    *leaseWish
		why     *problem
	)
	if !held.IsValid() || hasLost(o, held) {
		wish, why = wanted(o)
	}
	switch {
	case wish != nil:
		decided.lease = wish
	case held.IsValid():
		decided.Status = statusHeld(o, held)
		others := surplus(o.Held, held)
		// Another replica may have chosen another of the leases. Which one stays is
		// settled by the status, of which only one writer wins; until then none goes.
		if o.Claim.Status.Address == held.String() {
			decided.Delete = others
		} else if len(others) > 0 {
			decided.RequeueAfter = surplusDelay
		}
	default:
		decided.Status = statusProblem(o, why)
		if !o.Retry.IsZero() {
			decided.RequeueAfter = max(o.Retry.Sub(o.Now), time.Second)
		}
	}
	return decided
}

// surplusDelay is when the status is surely known, by which it is decided which of
// several leases goes. The controller is not told of its own status.
const surplusDelay = time.Second

// hasLost tells that the claim has shown an address of which it has no lease, though
// it has another one: the guest goes on with what it was started with.
func hasLost(o Observed, held netip.Addr) bool {
	return o.Claim.Status.Address != "" && o.Claim.Status.Address != held.String() && asksFor(o.Claim).IsValid()
}

// decideDeletion keeps the claim while a machine uses it: its guest has the
// address.
func decideDeletion(o Observed) decision {
	machine := user(o)
	if machine == "" {
		return decision{Plan: shared.Plan[*v1alpha2.VirtualMachineIPAddress]{
			Finalizer: shared.FinalizerRemove, FinalizerName: v1alpha2.FinalizerVMIPCleanup,
		}}
	}
	want, conditions := draft(o)
	message := fmt.Sprintf("VirtualMachine %s/%s uses the address: delete the machine or give it another address in spec.virtualMachineIPAddressName.",
		o.Claim.Namespace, machine)
	conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonTerminating, message)
	conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending, message)
	want.Status.Conditions = conditions.List()
	return decision{Plan: shared.Plan[*v1alpha2.VirtualMachineIPAddress]{Status: want}}
}

// pickHeld chooses among the leases that name the claim the one whose address the
// claim shows already, else the first.
func pickHeld(o Observed) netip.Addr {
	var first netip.Addr
	for i := range o.Held {
		address, err := ipam.ParseLeaseName(o.Held[i].Name)
		if err != nil {
			continue
		}
		if address.String() == o.Claim.Status.Address {
			return address
		}
		if !first.IsValid() {
			first = address
		}
	}
	return first
}

// surplus lists the leases that the claim holds beside the one that it uses.
func surplus(held []v1alpha2.VirtualMachineIPAddressLease, used netip.Addr) []client.Object {
	var out []client.Object
	for i := range held {
		if held[i].Name != ipam.LeaseName(used) {
			out = append(out, held[i].DeepCopy())
		}
	}
	return out
}

// problem is why no address can be leased.
type problem struct {
	reason  v1alpha2.ConditionReason
	message string
}

// asksFor is the address that a claim wants and no other; it is not valid when any
// will do. An address that the claim has shown is in use, whatever the spec and the
// ranges say now.
func asksFor(claim *v1alpha2.VirtualMachineIPAddress) netip.Addr {
	text := claim.Status.Address
	if text == "" && claim.Spec.Type == v1alpha2.IPAddressStatic {
		text = claim.Spec.StaticIP
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

// wanted tells what to lease for a claim that holds nothing.
func wanted(o Observed) (*leaseWish, *problem) {
	if lost := asksFor(o.Claim); lost.IsValid() && o.Claim.Status.Address != "" {
		return wantedLost(o, lost)
	}
	if o.Claim.Spec.Type == v1alpha2.IPAddressStatic {
		return wantedStatic(o)
	}
	switch {
	case o.Pool.IsEmpty():
		return nil, &problem{v1alpha2.ReasonNoFreeIPAddress, "No address ranges are configured: set virtualMachineCIDRs in ModuleConfig virtualization."}
	case o.HasFree:
		return &leaseWish{}, nil
	case len(o.Released) > 0:
		// Nobody else may have it, so it is better than to wait until it is free for all.
		return &leaseWish{address: o.Released[0], reclaim: true}, nil
	}
	return nil, &problem{v1alpha2.ReasonNoFreeIPAddress, fmt.Sprintf(
		"Every address of %s is taken: add a range to virtualMachineCIDRs in ModuleConfig virtualization.", o.Pool)}
}

func wantedLost(o Observed, lost netip.Addr) (*leaseWish, *problem) {
	holder, taken := o.Taken[lost]
	switch {
	case !taken:
		return &leaseWish{address: lost}, nil
	case holder.Name == "" && holder.Namespace == o.Claim.Namespace:
		return &leaseWish{address: lost, reclaim: true}, nil
	}
	return nil, &problem{v1alpha2.ReasonLeaseLost, fmt.Sprintf(
		"The lease of %s was deleted and the address is %s now: delete this VirtualMachineIPAddress and make it again.",
		lost, describe(holder, o.Claim.Namespace))}
}

func wantedStatic(o Observed) (*leaseWish, *problem) {
	address := asksFor(o.Claim)
	if !address.IsValid() {
		return nil, &problem{v1alpha2.ReasonIPAddressOutOfRange, fmt.Sprintf("spec.staticIP %q is no IP address.", o.Claim.Spec.StaticIP)}
	}
	if err := o.Pool.Check(address); err != nil {
		return nil, &problem{v1alpha2.ReasonIPAddressOutOfRange, outOfRange(err)}
	}
	holder, taken := o.Taken[address]
	switch {
	case !taken:
		return &leaseWish{address: address}, nil
	case holder.Name == "" && holder.Namespace == o.Claim.Namespace:
		return &leaseWish{address: address, reclaim: true}, nil
	}
	return nil, &problem{v1alpha2.ReasonLeaseAlreadyExists, fmt.Sprintf(
		"spec.staticIP %s is %s: make this VirtualMachineIPAddress again with another address, or free this one.",
		address, describe(holder, o.Claim.Namespace))}
}

func outOfRange(err error) string {
	if errors.Is(err, ipam.ErrNoRanges) {
		return "No address ranges are configured: set virtualMachineCIDRs in ModuleConfig virtualization."
	}
	return fmt.Sprintf("spec.staticIP %s: make this VirtualMachineIPAddress again with an address of virtualMachineCIDRs.", err)
}

// describe says who has an address without telling one namespace about another.
func describe(h ipam.Holder, viewer string) string {
	switch {
	case h.Namespace != viewer && h.Name == "":
		return "kept for another namespace for some minutes"
	case h.Namespace != viewer:
		return "taken by another namespace"
	default:
		return fmt.Sprintf("taken by VirtualMachineIPAddress %s/%s", h.Namespace, h.Name)
	}
}

func statusHeld(o Observed, address netip.Addr) *v1alpha2.VirtualMachineIPAddress {
	want, conditions := draft(o)
	want.Status.Address = address.String()
	want.Status.Phase = v1alpha2.IPAddressBound
	if want.Status.VirtualMachineName != "" {
		want.Status.Phase = v1alpha2.IPAddressAttached
	}
	message := fmt.Sprintf("The address %s is held.", address)
	if static := o.Claim.Spec.StaticIP; o.Claim.Spec.Type == v1alpha2.IPAddressStatic && !sameAddress(static, address) {
		message = fmt.Sprintf("The address %s is held and spec.staticIP is %s: a held address cannot be changed, make this VirtualMachineIPAddress again.", address, static)
		conditions.False(v1alpha2.ConditionBound, v1alpha2.ReasonLeaseNotReady, message)
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonLeaseNotReady, message)
	} else {
		conditions.True(v1alpha2.ConditionBound, v1alpha2.ReasonBound, message)
		conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonBound, message)
	}
	want.Status.Conditions = conditions.List()
	return want
}

func sameAddress(text string, address netip.Addr) bool {
	parsed, err := netip.ParseAddr(text)
	return err == nil && parsed.Unmap() == address
}

func statusProblem(o Observed, p *problem) *v1alpha2.VirtualMachineIPAddress {
	want, conditions := draft(o)
	want.Status.Phase = v1alpha2.IPAddressPending
	conditions.False(v1alpha2.ConditionBound, p.reason, p.message)
	conditions.False(v1alpha2.ConditionReady, p.reason, p.message)
	want.Status.Conditions = conditions.List()
	return want
}

// draft starts the wanted status with what does not depend on the address.
func draft(o Observed) (*v1alpha2.VirtualMachineIPAddress, *shared.Conditions) {
	want := o.Claim.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	machine := user(o)
	want.Status.ObservedGeneration = want.Generation
	want.Status.VirtualMachineName = machine
	if machine != "" {
		conditions.True(v1alpha2.ConditionAttached, v1alpha2.ReasonAttached,
			fmt.Sprintf("VirtualMachine %s/%s uses the address.", want.Namespace, machine))
	} else {
		conditions.False(v1alpha2.ConditionAttached, v1alpha2.ReasonVirtualMachineNotFound, "No VirtualMachine uses the address.")
	}
	return want, conditions
}

// user is the machine that has the claim: the one that had it before, else the
// oldest of those that want it.
func user(o Observed) string {
	for i := range o.Machines {
		if o.Machines[i].Name == o.Claim.Status.VirtualMachineName {
			return o.Machines[i].Name
		}
	}
	if len(o.Machines) == 0 {
		return ""
	}
	return o.Machines[0].Name
}

// events tells what became of the address, once.
func events(before, after *v1alpha2.VirtualMachineIPAddress) []shared.Event {
	was, is := bound(before), bound(after)
	if is == nil || (was != nil && was.Status == is.Status && was.Reason == is.Reason && was.Message == is.Message) {
		return nil
	}
	event := shared.Event{Type: corev1.EventTypeNormal, Reason: is.Reason, Message: is.Message}
	if is.Status != metav1.ConditionTrue {
		event.Type = corev1.EventTypeWarning
	}
	return []shared.Event{event}
}

func bound(claim *v1alpha2.VirtualMachineIPAddress) *metav1.Condition {
	for i := range claim.Status.Conditions {
		if claim.Status.Conditions[i].Type == v1alpha2.ConditionBound {
			return &claim.Status.Conditions[i]
		}
	}
	return nil
}
