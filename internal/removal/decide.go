// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package removal takes the engine out of a cluster before the module goes: Helm starts it when the module is disabled.
//
// The order is what matters. As long as our controller runs, it starts guests again; without KubeVirt, nobody stops
// them and their finalizers stay for ever; without their operators, KubeVirt and CDI leave webhooks behind that refuse
// whatever they were asked about. So each stage begins when the one before is over:
//
//	the controller ends → what firmware remembers changes hands → machines and guests go → KubeVirt and CDI go → Helm removes the rest
//
// What users declared stays as it is, and so do the volumes of their disks, and those on which KubeVirt keeps the
// variables of a machine's firmware and its TPM: they belong to KubeVirt's machine and would go with it, and a guest
// whose disk is encrypted by its TPM could not read it any more.
//
// A removal that somebody takes back ends at once.
package removal

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Observed is what the cluster holds of the engine.
type Observed struct {
	// Controller is our own; while it runs, it makes machines anew.
	Controller Controller
	// Machines and Guests are the engine's machines and what runs of them.
	Machines []Part
	Guests   []Part
	// Operated are the objects that stand for KubeVirt and CDI themselves.
	Operated []Part
	// Foreign names a KubeVirt that is not the module's; empty where there is none.
	Foreign string
	// Memories are the volumes of firmware that would go with the engine's machines.
	Memories []Memory
	// Enabled tells that the ModuleConfig asks for the module. Revoked tells that it did not when the removal began.
	Enabled, Revoked bool
}

// Memory is a volume on which KubeVirt keeps what a machine's firmware remembers.
type Memory struct {
	Claim *corev1.PersistentVolumeClaim
	// Owner is the user's machine, with which the volume shall go from now on.
	Owner metav1.OwnerReference
}

// Controller is the Deployment of the module's controllers.
type Controller struct {
	// Replicas is how many are wanted.
	Replicas int32
	// Pods are those that run or end.
	Pods []string
}

// Part is an object that has to go.
type Part struct {
	Object client.Object
	// Kind says what it is, in words for people.
	Kind string
	// State is what is known of it, for whoever has to find out why it stays.
	State string
}

func (p Part) String() string {
	name := p.Object.GetName()
	if namespace := p.Object.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	text := p.Kind + " " + name
	if p.State != "" {
		text += " (" + p.State + ")"
	}
	return text
}

// Stage names what is being waited for.
type Stage string

// The stages, in their order.
const (
	StageController Stage = "stopping the module's controllers"
	StageMemories   Stage = "keeping what firmware remembers"
	StageGuests     Stage = "stopping guests"
	StageOperated   Stage = "removing KubeVirt and CDI"
	StageDone       Stage = "the engine is removed"
	// StageRevoked is the other end: nothing more is stopped or removed.
	StageRevoked Stage = "the module is enabled again"
)

// Plan is what to do next.
type Plan struct {
	Stage Stage
	// StopController asks for no more replicas.
	StopController bool
	// Keep are the volumes that have to change hands.
	Keep []Memory
	// Delete are the objects that nobody has deleted yet.
	Delete []client.Object
	// Remaining names all that the stage waits for.
	Remaining []string
}

// Decide says what comes next. It is pure.
func Decide(o Observed) Plan {
	if o.Revoked {
		return Plan{Stage: StageRevoked}
	}
	if o.Foreign != "" {
		// Its machines are not ours to stop, and there can be no engine of ours beside it.
		return Plan{Stage: StageDone}
	}
	if o.Controller.Replicas > 0 || len(o.Controller.Pods) > 0 {
		plan := Plan{Stage: StageController, StopController: o.Controller.Replicas > 0}
		for _, pod := range o.Controller.Pods {
			plan.Remaining = append(plan.Remaining, "Pod "+pod)
		}
		return plan
	}
	if len(o.Memories) > 0 {
		plan := Plan{Stage: StageMemories, Keep: o.Memories}
		for _, memory := range o.Memories {
			plan.Remaining = append(plan.Remaining, "volume "+memory.Claim.Namespace+"/"+memory.Claim.Name)
		}
		return plan
	}
	if parts := slices.Concat(o.Machines, o.Guests); len(parts) > 0 {
		return waitFor(StageGuests, parts)
	}
	if len(o.Operated) > 0 {
		return waitFor(StageOperated, o.Operated)
	}
	return Plan{Stage: StageDone}
}

func waitFor(stage Stage, parts []Part) Plan {
	plan := Plan{Stage: stage}
	for _, part := range parts {
		plan.Remaining = append(plan.Remaining, part.String())
		if part.Object.GetDeletionTimestamp() == nil {
			plan.Delete = append(plan.Delete, part.Object)
		}
	}
	slices.Sort(plan.Remaining)
	return plan
}

// advice says where to look when a stage does not end.
func (s Stage) advice() string {
	switch s {
	case StageController:
		return "look at the Pods of virtualization-controller and at the nodes that they are on"
	case StageMemories:
		return "look at what refuses changes of these PersistentVolumeClaims, for example an admission webhook; " +
			"who can do without what a machine's firmware remembers deletes its volume"
	case StageGuests:
		return "look at the logs of virt-controller and, on the nodes of the guests, of virt-handler; " +
			"a guest on a node that does not answer goes when the node is back or is deleted"
	case StageOperated:
		return "look at the logs of virt-operator and cdi-operator"
	}
	return ""
}

// unfinished is the error of a removal that took too long.
func (p Plan) unfinished(limit fmt.Stringer) error {
	text := fmt.Sprintf("the engine is not removed after %s: %s takes too long", limit, p.Stage)
	if len(p.Remaining) > 0 {
		text += "; what remains:"
		for _, part := range p.Remaining {
			text += "\n  - " + part
		}
	}
	return fmt.Errorf("%s\nWhat to do: %s. The removal is tried again", text, p.Stage.advice())
}
