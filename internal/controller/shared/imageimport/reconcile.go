// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Adapter is what a kind has to say about itself. T is the kind, as a pointer.
type Adapter[T client.Object] struct {
	// Kind is the kind's name, Finalizer the one that holds its objects.
	Kind      string
	Finalizer string
	// Volumes tells that images of the kind can be kept on volumes.
	Volumes bool
	// New makes an empty object, NewList an empty list.
	New     func() T
	NewList func() client.ObjectList
	// Read takes the spec and the status out of an object.
	Read func(T) (Spec, Status)
	// Write puts a status into an object.
	Write func(T, Status)
}

// Registry is what the controller does in DVCR itself.
type Registry interface {
	// Head looks for the image; dvcr.ErrNotFound says that it is not there.
	Head(ctx context.Context, reference string) (digest string, err error)
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

// Users finds out who uses an image or a disk.
type Users interface {
	Users(ctx context.Context, kind, namespace, name, uid string) ([]usage.User, error)
	Holders(ctx context.Context, namespace, disk string) ([]string, error)
}

// Dependencies are what a reconcile needs besides the API server.
type Dependencies struct {
	Settings Settings
	Issuer   Issuer
	Registry Registry
	Reports  Reports
	// Filler makes the volumes of images that are kept on one.
	Filler filling.Filler
	Clock  clock.PassiveClock
}

// Reconciler imports the images of one kind.
type Reconciler[T client.Object] struct {
	shared.Executor
	Dependencies
	Adapter Adapter[T]

	users       Users
	prefix      string
	checkpoints *importerpod.Checkpoints
	// cleanups remembers, by uid, why emptying the registry failed the last time,
	// to be told in the status. Losing it in a restart only delays the telling.
	cleanups sync.Map
	// presences remembers, by uid, the registry's last answer.
	presences sync.Map
}

// NewReconciler makes the reconciler of a kind. Prefix is that of its indexes.
func NewReconciler[T client.Object](
	executor shared.Executor, dependencies Dependencies, users Users, adapter Adapter[T], prefix string,
) *Reconciler[T] {
	return &Reconciler[T]{
		Executor: executor, Dependencies: dependencies, Adapter: adapter, users: users, prefix: prefix,
		checkpoints: &importerpod.Checkpoints{Client: executor.Client, Clock: dependencies.Clock},
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler[T]) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	image := r.Adapter.New()
	if _, err := shared.Get(ctx, r.Client, req.NamespacedName, image); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.removeOrphans(ctx, req.NamespacedName, image.GetUID()); err != nil {
		return ctrl.Result{}, err
	}
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
	o.Settings.Settings = r.Settings.Frozen()
	for _, step := range []func(context.Context, *Observed) error{
		r.observePods, r.observeUsers, r.observeUpload, r.observeVolume, r.observePresence, r.observeSource,
	} {
		if err := step(ctx, &o.Observed); err != nil {
			return o, err
		}
	}
	if newest, ok := r.Reports.Latest(image.Subject()); ok {
		o.Progress = &newest
	}
	if failure, ok := r.cleanups.Load(image.UID); ok {
		o.CleanupFailure = failure.(*CleanupFailure)
	}
	return o, nil
}

func (r *Reconciler[T]) observePods(ctx context.Context, o *Observed) error {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.MatchingFields{r.prefix + indexPods: string(o.Image.UID)}); err != nil {
		return fmt.Errorf("listing the importers: %w", err)
	}
	for i := range pods.Items {
		o.Pods = append(o.Pods, &pods.Items[i])
	}
	return nil
}

func (r *Reconciler[T]) observeUsers(ctx context.Context, o *Observed) (err error) {
	i := o.Image
	o.Users, err = r.users.Users(ctx, i.Kind, i.Namespace, i.Name, string(i.UID))
	return err
}

// observeUpload looks at what leads to the importer, and at which upload is open.
func (r *Reconciler[T]) observeUpload(ctx context.Context, o *Observed) error {
	key := client.ObjectKey{Namespace: r.Settings.Namespace, Name: importerpod.UploadName(o.Image.UID)}
	service, ingress := &corev1.Service{}, &networkingv1.Ingress{}
	if found, err := shared.Get(ctx, r.Client, key, service); err != nil {
		return err
	} else if found {
		o.Upload.Service = service
	}
	if found, err := shared.Get(ctx, r.Client, key, ingress); err != nil {
		return err
	} else if found {
		o.Upload.Ingress = ingress
	}
	if o.Image.Spec.Source.Type != v1alpha2.DataSourceUpload || o.isSettled() {
		return nil
	}
	o.Upload.Fresh = importerpod.NewUpload(o.Image.UID, o.Now)
	if o.Upload.Open = openUploadOf(o); o.Upload.Open != nil {
		return nil
	}
	// The status does not tell the addresses, or not yet: the Secret does.
	secret := &corev1.Secret{}
	key.Name = o.Image.ChildName()
	found, err := shared.Get(ctx, r.Client, key, secret)
	if err == nil && found {
		o.Upload.Open = importerpod.UploadOf(secret, o.Image.UID)
	}
	return err
}

// openUploadOf takes the upload from the addresses in the status and from the Pod
// that waits for it, so that its Secret is not read for each report.
func openUploadOf(o *Observed) *importerpod.Upload {
	urls := o.Image.Status.ImageUploadURLs
	for _, pod := range o.Pods {
		if urls != nil {
			if open := importerpod.UploadFrom(urls, pod, o.Image.UID); open != nil {
				return open
			}
		}
	}
	return nil
}

// isSettled tells that nothing is being imported and nothing will be.
func (o *Observed) isSettled() bool {
	return o.Image.DeletedAt != nil || o.Image.Status.isReady()
}

func (r *Reconciler[T]) observeVolume(ctx context.Context, o *Observed) error {
	if !o.Image.OnVolume() {
		return nil
	}
	v := &o.Volume
	v.Filler = r.Filler
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: o.Image.Namespace, Name: o.Image.owner().ClaimName()}
	found, err := shared.Get(ctx, r.Client, key, claim)
	if err != nil {
		return err
	}
	if found {
		v.Claim = claim
	}
	if v.Filling, err = r.Filler.Observe(ctx, r.Client, o.Image.owner()); err != nil || o.isSettled() {
		return err
	}
	v.Storage, err = filling.ObserveStorage(ctx, r.Client, o.Image.Spec.StorageClass, r.Settings.Classes, v.Claim)
	return err
}

// observePresence looks for a finished image in the registry from time to time.
func (r *Reconciler[T]) observePresence(ctx context.Context, o *Observed) error {
	i := o.Image
	finished := i.Status.isReady() || i.Status.Phase == v1alpha2.ImageLost
	if !finished || i.DeletedAt != nil || i.OnVolume() {
		return nil
	}
	if known, ok := r.presences.Load(i.UID); ok {
		presence := known.(*Presence)
		interval := presenceInterval
		if !presence.Found {
			interval = absenceInterval
		}
		if o.Now.Sub(presence.At) < interval {
			o.Presence = presence
			return nil
		}
	}
	_, err := r.Registry.Head(ctx, i.Reference(r.Settings.RegistryAddress))
	if err != nil && !errors.Is(err, dvcr.ErrNotFound) {
		// A registry that does not answer says nothing about the image.
		ctrl.LoggerFrom(ctx).Info("The registry cannot be asked for the image", "error", err.Error())
		return nil
	}
	o.Presence = &Presence{Found: err == nil, At: o.Now}
	r.presences.Store(i.UID, o.Presence)
	return nil
}

// observeSource looks up what the data source names, and makes a token for it.
func (r *Reconciler[T]) observeSource(ctx context.Context, o *Observed) (err error) {
	lost := o.Presence != nil && !o.Presence.Found
	if o.isSettled() && !lost {
		return nil
	}
	words := o.Image.Spec.Source
	if o.Facts, err = origin.Observe(ctx, r.Client, r.users, words); err != nil {
		return err
	}
	found, _ := origin.Resolve(words, o.Facts, o.Image.self())
	o.Credential, err = r.credential(o.Image, found.Pull, o.Now)
	return err
}

func (r *Reconciler[T]) image(object T) Image {
	spec, status := r.Adapter.Read(object)
	image := Image{
		Kind: r.Adapter.Kind, Namespace: object.GetNamespace(), Name: object.GetName(), UID: object.GetUID(),
		Generation: object.GetGeneration(), Annotations: object.GetAnnotations(), Spec: spec, Status: status,
	}
	for _, finalizer := range object.GetFinalizers() {
		image.Held = image.Held || finalizer == r.Adapter.Finalizer
	}
	if at := object.GetDeletionTimestamp(); at != nil {
		image.DeletedAt = &at.Time
	}
	return image
}

// credential makes a token for one import: it opens the image's own repository, and
// the one that is copied from for reading.
func (r *Reconciler[T]) credential(image Image, pull string, now time.Time) (importerpod.Credential, error) {
	access := []token.Access{token.Repository(image.Repository(), token.ActionPull, token.ActionPush)}
	if pull != "" {
		access = append(access, token.Repository(pull, token.ActionPull))
	}
	signed, err := r.Issuer.Issue(image.Subject().String(), access, CredentialTTL)
	if err != nil {
		return importerpod.Credential{}, fmt.Errorf("issuing the importer's token: %w", err)
	}
	return importerpod.Credential{Token: signed, ExpiresAt: now.Add(CredentialTTL)}, nil
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
	if len(decision.Checkpoint) > 0 {
		plan.Actions = append(plan.Actions, shared.Action{
			Name: "keeping the importer's checkpoint",
			Run: func(ctx context.Context) error {
				// The next report comes soon and brings what was too early now.
				_, err := r.checkpoints.Save(ctx, decision.Secret, decision.Checkpoint)
				return err
			},
		})
	}
	r.remember(o.Image, decision)
	return plan
}

// remember drops what was kept in memory about an import that is over.
func (r *Reconciler[T]) remember(image Image, decision Decision) {
	gone := decision.Finalizer == shared.FinalizerRemove
	ready := decision.Status.isReady()
	if gone || ready || decision.Forget {
		r.Reports.Forget(image.Subject())
		r.checkpoints.Forget(client.ObjectKey{Namespace: r.Settings.Namespace, Name: image.ChildName()})
	}
	if gone || ready && !image.Status.isReady() {
		r.presences.Delete(image.UID)
	}
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
