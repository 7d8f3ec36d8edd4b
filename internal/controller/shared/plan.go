// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// FieldManager owns the fields that the controllers apply.
const FieldManager = "virtualization-controller"

// Event is a Kubernetes event about the reconciled object.
type Event struct {
	// Type is corev1.EventTypeNormal or corev1.EventTypeWarning.
	Type    string
	Reason  string
	Message string
}

// FinalizerChange tells what becomes of the object's finalizer.
type FinalizerChange string

const (
	// FinalizerKeep leaves the finalizers as they are.
	FinalizerKeep FinalizerChange = ""
	// FinalizerAdd makes sure that the finalizer is there before any child is.
	FinalizerAdd FinalizerChange = "Add"
	// FinalizerRemove lets the object go; it is the last write of a plan.
	FinalizerRemove FinalizerChange = "Remove"
)

// Action is a write to something that is not a Kubernetes object. It must be
// idempotent: after a crash it runs again.
type Action struct {
	// Name says what is done, for errors and logs, with an -ing verb.
	Name string
	Run  func(ctx context.Context) error
}

// Plan is what a decision wants the world to be. The zero Plan changes nothing.
// T is the kind, as a pointer.
type Plan[T client.Object] struct {
	// Finalizer is changed as FinalizerChange says; FinalizerName names it.
	Finalizer     FinalizerChange
	FinalizerName string
	// Delete names children to delete. One that is gone already is no error. When
	// the object holds a UID it is a precondition: a namesake is left alone.
	Delete []client.Object
	// Apply holds children that are kept equal to what is given, by server-side
	// apply. Only the fields that are set are owned.
	Apply []Child
	// Create holds children that are made once and never changed after.
	Create []client.Object
	// Actions run after the children are written.
	Actions []Action
	// Status is a copy of the observed object with the wanted status; the nil
	// value leaves the status alone.
	Status T
	// Events are recorded after the status was written.
	Events []Event
	// RequeueAfter is the time to a deadline that no watch will announce. Zero
	// means that only an event brings the object back.
	RequeueAfter time.Duration
}

// Orphan marks a child in Plan.Delete whose own dependents are to stay: the server
// takes it out of their owners before it goes.
func Orphan(child client.Object) client.Object { return orphan{child} }

type orphan struct{ client.Object }

// AtOnce marks a child in Plan.Delete that the server lets go without a word of the node
// that it is on, also when it is being deleted already. What the Pod was doing may go on
// there: this is only for one that does no harm then.
func AtOnce(child client.Object) client.Object { return atOnce{child} }

type atOnce struct{ client.Object }

// Child is an object to apply together with what the cache shows of it.
type Child struct {
	// Want is the object as it should be, with TypeMeta or a registered type.
	Want client.Object
	// Have is the observed object, or nil when there is none; it decides whether
	// a write is needed at all.
	Have client.Object
}
