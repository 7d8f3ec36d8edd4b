// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// ControllerName is the name of the controller in logs, metrics and events.
const ControllerName = "populator"

// Options configure the controller.
type Options struct {
	Dependencies
	// Wake delivers a claim's namespace and name for each report about it.
	Wake <-chan event.GenericEvent
	// Concurrency is how many claims are reconciled at once; 0 means 4.
	Concurrency int
}

const defaultConcurrency = 4

// Indexes by which an event on something else finds the claims that it is about.
const (
	indexSource      = "populator.source"
	indexClass       = "populator.class"
	indexTarget      = "populator.target"
	indexVolumeClaim = "populator.volume.claim"
)

// Setup registers the controller.
func Setup(mgr ctrl.Manager, options Options) error {
	if options.Concurrency == 0 {
		options.Concurrency = defaultConcurrency
	}
	if err := setupIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	reconciler := newReconciler(
		shared.NewExecutor(mgr, ControllerName),
		mgr.GetAPIReader(), options.Dependencies)
	mapper := &mapper{reader: mgr.GetClient()}
	bySource := handler.EnqueueRequestsFromMapFunc(mapper.source)
	blueprint := ctrl.NewControllerManagedBy(mgr).
		Named(ControllerName).
		For(&corev1.PersistentVolumeClaim{}, builder.WithPredicates(predicate.NewPredicateFuncs(isWork))).
		// The primes are claims themselves; they and the importers name the claim that
		// they are for.
		Watches(&corev1.PersistentVolumeClaim{}, importerpod.EnqueueOwner(filling.ClaimKind)).
		Watches(&corev1.Pod{}, importerpod.EnqueueOwner(filling.ClaimKind)).
		Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(mapper.volume)).
		Watches(&v1alpha2.VirtualDisk{}, bySource).
		Watches(&v1alpha2.VirtualImage{}, bySource).
		Watches(&v1alpha2.ClusterVirtualImage{}, bySource).
		Watches(&storagev1.StorageClass{}, handler.EnqueueRequestsFromMapFunc(mapper.class)).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency})
	if options.Wake != nil {
		blueprint.WatchesRawSource(source.Channel(options.Wake, &handler.EnqueueRequestForObject{}))
	}
	if err := blueprint.Complete(reconciler); err != nil {
		return fmt.Errorf("setting up the controller %s: %w", ControllerName, err)
	}
	return nil
}

func setupIndexes(indexer client.FieldIndexer) error {
	for _, index := range indexes {
		if err := indexer.IndexField(context.Background(), index.object, index.field, index.values); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.field, err)
		}
	}
	return nil
}

var indexes = []struct {
	object client.Object
	field  string
	values client.IndexerFunc
}{
	{&corev1.PersistentVolumeClaim{}, indexSource, sourceOf},
	{&corev1.PersistentVolumeClaim{}, indexClass, classOf},
	{&corev1.PersistentVolumeClaim{}, indexTarget, targetOf},
	{&corev1.Pod{}, indexTarget, targetOf},
	{&corev1.PersistentVolume{}, indexVolumeClaim, claimUIDOf},
}

// isWork picks the claims that are to be filled, or are being left alone.
func isWork(object client.Object) bool {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	return ok && isOurs(claim) && !isFinished(claim)
}

// sourceOf is what an unfinished claim is filled from, as kind/name.
func sourceOf(object client.Object) []string {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok || isFinished(claim) {
		return nil
	}
	return []string{claim.Spec.DataSourceRef.Kind + "/" + claim.Spec.DataSourceRef.Name}
}

// classOf is the storage class of an unfinished claim.
func classOf(object client.Object) []string {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok || isFinished(claim) {
		return nil
	}
	return []string{ptr.Deref(claim.Spec.StorageClassName, "")}
}

// targetOf is the claim that a prime or an importer is for.
func targetOf(object client.Object) []string {
	subject, known := importerpod.Owner(object)
	if !known || subject.Kind != filling.ClaimKind {
		return nil
	}
	return []string{client.ObjectKey{Namespace: subject.Namespace, Name: subject.Name}.String()}
}

// claimUIDOf is the uid of the claim that a volume is bound to.
func claimUIDOf(object client.Object) []string {
	volume, ok := object.(*corev1.PersistentVolume)
	if !ok || volume.Spec.ClaimRef == nil {
		return nil
	}
	return []string{string(volume.Spec.ClaimRef.UID)}
}

// mapper finds the claims that an event is about.
type mapper struct{ reader client.Reader }

// volume brings the claim that a volume was handed over to, or is being filled for.
func (m *mapper) volume(ctx context.Context, object client.Object) []reconcile.Request {
	volume, ok := object.(*corev1.PersistentVolume)
	if !ok || volume.Spec.ClaimRef == nil {
		return nil
	}
	key := client.ObjectKey{Namespace: volume.Spec.ClaimRef.Namespace, Name: volume.Spec.ClaimRef.Name}
	if volume.Annotations[annotationPopulated] != "" {
		return []reconcile.Request{{NamespacedName: key}}
	}
	prime := &corev1.PersistentVolumeClaim{}
	if !strings.HasPrefix(key.Name, primePrefix) || m.reader.Get(ctx, key, prime) != nil {
		return nil
	}
	subject, known := importerpod.Owner(prime)
	if !known {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: subject.Namespace, Name: subject.Name}}}
}

func (m *mapper) source(ctx context.Context, object client.Object) []reconcile.Request {
	var kind string
	switch object.(type) {
	case *v1alpha2.VirtualDisk:
		kind = v1alpha2.VirtualDiskKind
	case *v1alpha2.VirtualImage:
		kind = v1alpha2.VirtualImageKind
	default:
		kind = v1alpha2.ClusterVirtualImageKind
	}
	return m.list(ctx, client.InNamespace(object.GetNamespace()), client.MatchingFields{indexSource: kind + "/" + object.GetName()})
}

func (m *mapper) class(ctx context.Context, class client.Object) []reconcile.Request {
	return m.list(ctx, client.MatchingFields{indexClass: class.GetName()})
}

func (m *mapper) list(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	claims := &corev1.PersistentVolumeClaimList{}
	if err := m.reader.List(ctx, claims, options...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the claims that an event is about")
		return nil
	}
	return shared.Requests(claims)
}
