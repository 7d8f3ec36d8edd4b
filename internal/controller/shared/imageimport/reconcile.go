// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Adapter is what a kind has to say about itself. T is the kind, as a pointer.
type Adapter[T client.Object] struct {
	// Kind is the kind's name, Finalizer the one that holds its objects.
	Kind      string
	Finalizer string
	// New makes an empty object.
	New func() T
	// Read takes the source and the status out of an object.
	Read func(T) (Source, Status)
	// Write puts a status into an object.
	Write func(T, Status)
}

// Registry is what the controller does in DVCR itself.
type Registry interface {
	// Delete removes the image; one that is not there is no error.
	Delete(ctx context.Context, reference string) error
}

// Reports holds the newest report of each importer.
type Reports interface {
	Latest(subject token.Subject) (reportserver.Report, bool)
	Forget(subject token.Subject)
}

// Issuer signs credentials.
type Issuer interface {
	Issue(subject string, access []token.Access, ttl time.Duration) (string, error)
}

// Dependencies are what a reconcile needs besides the API server.
type Dependencies struct {
	Settings Settings
	Issuer   Issuer
	Registry Registry
	Reports  Reports
	Clock    clock.PassiveClock
}

// Reconciler imports the images of one kind.
type Reconciler[T client.Object] struct {
	shared.Executor
	Dependencies
	Adapter Adapter[T]

	// cleanups remembers, by uid, why emptying the registry failed the last time,
	// to be told in the status. Losing it in a restart only delays the telling.
	cleanups sync.Map
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler[T]) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	inner := shared.Reconciler[T, observation[T]]{
		Executor: r.Executor, New: r.Adapter.New, Observe: r.observe, Decide: r.plan,
	}
	result, err := inner.Reconcile(ctx, req)
	refusal := shared.RefusalOf(err)
	if refusal == nil {
		return result, err
	}
	// The API server does not let us have a child: the same observation is decided
	// about once more, with that known.
	inner.Observe = func(ctx context.Context, object T) (observation[T], error) {
		o, err := r.observe(ctx, object)
		o.Refusal = refusal
		return o, err
	}
	return inner.Reconcile(ctx, req)
}

// observation carries the object along, for the plan's status.
type observation[T client.Object] struct {
	Observed
	object T
}

func (r *Reconciler[T]) observe(ctx context.Context, object T) (observation[T], error) {
	image := r.image(object)
	o := observation[T]{object: object, Observed: Observed{Image: image, Now: r.Clock.Now(), Settings: r.Settings}}
	key := client.ObjectKey{Namespace: image.ChildNamespace(r.Settings), Name: image.ChildName()}

	pod := &corev1.Pod{}
	found, err := shared.Get(ctx, r.Client, key, pod)
	if err != nil {
		return o, err
	}
	if found && metav1.IsControlledBy(pod, object) {
		o.Pod = pod
	}
	if newest, ok := r.Reports.Latest(image.Subject()); ok {
		o.Progress = &newest
	}
	if failure, ok := r.cleanups.Load(image.UID); ok {
		o.CleanupFailure = failure.(*CleanupFailure)
	}
	if image.DeletedAt != nil || image.Status.isReady() {
		return o, nil
	}
	o.Credential, err = r.credential(image, o.Now)
	return o, err
}

func (r *Reconciler[T]) image(object T) Image {
	source, status := r.Adapter.Read(object)
	image := Image{
		Kind: r.Adapter.Kind, Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
		Generation: object.GetGeneration(), Source: source, Status: status,
	}
	for _, finalizer := range object.GetFinalizers() {
		image.Held = image.Held || finalizer == r.Adapter.Finalizer
	}
	if at := object.GetDeletionTimestamp(); at != nil {
		image.DeletedAt = &at.Time
	}
	return image
}

// credential makes a token for one import: it opens the image's own repository
// and nothing else.
func (r *Reconciler[T]) credential(image Image, now time.Time) (Credential, error) {
	access := []token.Access{token.Repository(image.Repository(), token.ActionPull, token.ActionPush)}
	signed, err := r.Issuer.Issue(image.Subject().String(), access, CredentialTTL)
	if err != nil {
		return Credential{}, fmt.Errorf("issuing the importer's token: %w", err)
	}
	return Credential{Token: signed, ExpiresAt: now.Add(CredentialTTL)}, nil
}

// plan turns the neutral decision into one about the kind.
func (r *Reconciler[T]) plan(o observation[T]) shared.Plan[T] {
	decision := Decide(o.Observed)
	r.Adapter.Write(o.object, decision.Status)
	plan := shared.Plan[T]{
		Finalizer: decision.Finalizer, FinalizerName: r.Adapter.Finalizer,
		Delete: decision.Delete, Apply: decision.Apply, Create: decision.Create,
		Status: o.object, Events: decision.Events, RequeueAfter: decision.RequeueAfter,
	}
	if decision.EmptyRegistry {
		plan.Actions = append(plan.Actions, shared.Action{
			Name: "deleting the image from the registry",
			Run:  func(ctx context.Context) error { return r.emptyRegistry(ctx, o.Image) },
		})
	}
	if decision.Status.isReady() || decision.Finalizer == shared.FinalizerRemove {
		r.Reports.Forget(o.Image.Subject())
	}
	return plan
}

func (r *Reconciler[T]) emptyRegistry(ctx context.Context, image Image) error {
	err := r.Registry.Delete(ctx, image.Reference(r.Settings.RegistryAddress))
	if err != nil {
		r.cleanups.Store(image.UID, &CleanupFailure{Message: err.Error(), At: r.Clock.Now()})
		return shared.Waiting("the registry does not delete the image: "+err.Error(), cleanupRetry)
	}
	r.cleanups.Delete(image.UID)
	return nil
}
