// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddresslease

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// Retention is how long a released lease stays.
const Retention = 10 * time.Minute

// Observed is what the decision about a lease sees.
type Observed struct {
	Lease *v1alpha2.VirtualMachineIPAddressLease
	// Claim is what the lease refers to; nil when there is no such claim.
	Claim *v1alpha2.VirtualMachineIPAddress
	Now   time.Time
}

// step is what has to be done to the lease itself.
type step string

const (
	stepNone    step = ""
	stepRelease step = "Release"
	stepDelete  step = "Delete"
)

// decision is a plan together with the step on the lease itself, which is not
// one of the plan's children.
type decision struct {
	shared.Plan[*v1alpha2.VirtualMachineIPAddressLease]
	step step
}

func decide(o Observed) decision {
	switch {
	case o.Lease.DeletionTimestamp != nil:
		return decision{}
	case isHeld(o):
		return decideBound(o)
	case claimName(o.Lease) != "":
		// The status follows with the event of this very change.
		return decision{step: stepRelease}
	default:
		return decideReleased(o)
	}
}

// isHeld tells whether the claim that the lease names exists and is the one that
// the lease was made for: a claim that was made again under the same name has to
// take the lease over first.
func isHeld(o Observed) bool {
	if claimName(o.Lease) == "" || o.Claim == nil {
		return false
	}
	uid := o.Lease.Labels[v1alpha2.LabelVirtualMachineIPAddressUID]
	return uid == "" || uid == string(o.Claim.UID)
}

func claimName(lease *v1alpha2.VirtualMachineIPAddressLease) string {
	if lease.Spec.VirtualMachineIPAddressRef == nil {
		return ""
	}
	return lease.Spec.VirtualMachineIPAddressRef.Name
}

// boundMessage is also in the default of the status, in the resource's schema: a
// lease is born with the status that it gets here, which saves a write for each
// address. The claim's name, which the spec tells, has no place in a default.
const boundMessage = "The VirtualMachineIPAddress in spec holds the address."

func decideBound(o Observed) decision {
	want := o.Lease.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	conditions.True(v1alpha2.ConditionBound, v1alpha2.ReasonBound, boundMessage)
	conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonBound, boundMessage)
	setStatus(want, v1alpha2.LeaseBound, conditions)
	return decision{Plan: shared.Plan[*v1alpha2.VirtualMachineIPAddressLease]{Status: want}}
}

func decideReleased(o Observed) decision {
	want := o.Lease.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	// The first pass marks the time from which the retention runs; later ones
	// read it back.
	conditions.False(v1alpha2.ConditionBound, v1alpha2.ReasonReleased, "No VirtualMachineIPAddress holds the address.")
	end := conditions.Get(v1alpha2.ConditionBound).LastTransitionTime.Add(Retention)
	if !o.Now.Before(end) {
		return decision{step: stepDelete}
	}
	conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReleased, fmt.Sprintf(
		"The address is kept for namespace %s until %s and is free for all after that.",
		namespace(o.Lease), end.UTC().Format(time.RFC3339)))
	setStatus(want, v1alpha2.LeaseReleased, conditions)
	plan := shared.Plan[*v1alpha2.VirtualMachineIPAddressLease]{Status: want, RequeueAfter: end.Sub(o.Now)}
	if o.Lease.Status.Phase == v1alpha2.LeaseBound {
		plan.Events = []shared.Event{{
			Type: corev1.EventTypeNormal, Reason: v1alpha2.ReasonReleased,
			Message: "The address was released.",
		}}
	}
	return decision{Plan: plan}
}

func namespace(lease *v1alpha2.VirtualMachineIPAddressLease) string {
	if lease.Spec.VirtualMachineIPAddressRef == nil {
		return ""
	}
	return lease.Spec.VirtualMachineIPAddressRef.Namespace
}

func setStatus(lease *v1alpha2.VirtualMachineIPAddressLease, phase v1alpha2.LeasePhase, conditions *shared.Conditions) {
	lease.Status.Phase = phase
	lease.Status.Conditions = conditions.List()
	lease.Status.ObservedGeneration = lease.Generation
}
