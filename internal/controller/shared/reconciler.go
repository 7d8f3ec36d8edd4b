// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Reconciler is the loop that all kinds share. T is the kind, as a pointer; O is
// what its decision sees.
type Reconciler[T client.Object, O any] struct {
	Executor
	// New makes an empty object of the kind.
	New func() T
	// Observe reads everything that Decide needs, the clock included. The object
	// is a copy that Observe may keep.
	Observe func(ctx context.Context, object T) (O, error)
	// Decide is pure: no client, no clock, no I/O, and nothing in the plan may
	// point into the observation's cached objects.
	Decide func(observed O) Plan[T]

	superseded superseded
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler[T, O]) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	object := r.New()
	if err := r.Client.Get(ctx, req.NamespacedName, object); err != nil {
		if apierrors.IsNotFound(err) {
			r.superseded.forget(req.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if r.superseded.covers(object) {
		return ctrl.Result{RequeueAfter: staleDelay}, nil
	}
	observed, err := r.Observe(ctx, object.DeepCopyObject().(T))
	if err != nil {
		return result(ctrl.Result{}, err)
	}
	written := object.DeepCopyObject().(T)
	res, err := Execute(ctx, r.Executor, written, r.Decide(observed))
	r.superseded.note(object, written)
	return result(res, err)
}
