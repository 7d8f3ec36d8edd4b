// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
)

// Options configure the controller of one kind.
type Options struct {
	Dependencies
	// Wake delivers an object with namespace and name for each report that an
	// importer of the kind has posted.
	Wake <-chan event.GenericEvent
	// WakeClaims does the same for reports about claims that are being filled; it is
	// only for kinds that can be kept on a volume.
	WakeClaims <-chan event.GenericEvent
	// Concurrency is how many images are reconciled at once; 0 means 4.
	Concurrency int
}

const defaultConcurrency = 4

// Setup registers the controller of a kind.
func Setup[T client.Object](mgr ctrl.Manager, name string, options Options, adapter Adapter[T]) error {
	if options.Concurrency == 0 {
		options.Concurrency = defaultConcurrency
	}
	finder, err := usage.New(mgr, name)
	if err != nil {
		return err
	}
	index := indexes[T]{prefix: name, adapter: adapter}
	if err := index.setup(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	reconciler := NewReconciler(shared.NewExecutor(mgr, name),
		options.Dependencies, finder, adapter, name)
	blueprint := ctrl.NewControllerManagedBy(mgr).
		Named(name).
		// The status of the image itself is watched too: the helpers are removed by the
		// reconcile that sees the result in it.
		For(adapter.New()).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(ownerOf(adapter.Kind))).
		Watches(&corev1.Service{}, importerpod.EnqueueOwner(adapter.Kind)).
		Watches(&networkingv1.Ingress{}, importerpod.EnqueueOwner(adapter.Kind)).
		// Only that a Secret changed is of interest, so its values stay out of the cache.
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(index.waitingForSecret(mgr.GetClient()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency})
	usage.Watch(blueprint, adapter.Kind)
	finder.WatchSources(blueprint, adapter.NewList)
	if adapter.Volumes {
		index.watchVolumes(blueprint, mgr.GetClient(), options)
	}
	if options.Wake != nil {
		blueprint.WatchesRawSource(source.Channel(options.Wake, &handler.EnqueueRequestForObject{}))
	}
	if err := blueprint.Complete(reconciler); err != nil {
		return fmt.Errorf("setting up the controller %s: %w", name, err)
	}
	return nil
}

// Names of indexes, after the controller's name.
const (
	indexPods     = ".pods"
	indexOwners   = ".owners"
	indexSecret   = ".pullSecret"
	indexClaim    = ".claim"
	indexUnready  = ".unready"
	unreadyMarker = "true"
)

type indexes[T client.Object] struct {
	prefix  string
	adapter Adapter[T]
}

func (x indexes[T]) setup(indexer client.FieldIndexer) error {
	ctx := context.Background()
	for _, index := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{&corev1.Pod{}, indexPods, podsOf(x.adapter.Kind)},
		{&corev1.Pod{}, indexOwners, ownersOf(x.adapter.Kind)},
		{x.adapter.New(), indexSecret, x.secretOf},
		{x.adapter.New(), indexClaim, func(object client.Object) []string { return []string{x.claimOf(object)} }},
		{x.adapter.New(), indexUnready, x.unready},
	} {
		if err := indexer.IndexField(ctx, index.object, x.prefix+index.name, index.values); err != nil {
			return fmt.Errorf("indexing %T by %s: %w", index.object, index.name, err)
		}
	}
	return nil
}

// podsOf finds the importers of an image by its uid, wherever they run. Those that
// an earlier version made say whose they are by their owner only.
func podsOf(kind string) client.IndexerFunc {
	return func(object client.Object) []string {
		if owner, ok := importerpod.Owner(object); ok {
			if owner.Kind != kind {
				return nil
			}
			return []string{owner.UID}
		}
		owner := metav1.GetControllerOf(object)
		if owner == nil || owner.Kind != kind || owner.APIVersion != v1alpha2.SchemeGroupVersion.String() {
			return nil
		}
		return []string{string(owner.UID)}
	}
}

// ownersOf finds the importers of an image by its name.
func ownersOf(kind string) client.IndexerFunc {
	return func(object client.Object) []string {
		var out []string
		for _, request := range ownerOf(kind)(context.Background(), object) {
			out = append(out, request.String())
		}
		return out
	}
}

// ownerOf finds the image that an importer works for.
func ownerOf(kind string) handler.MapFunc {
	return func(_ context.Context, pod client.Object) []reconcile.Request {
		if len(podsOf(kind)(pod)) == 0 {
			return nil
		}
		key := client.ObjectKey{Namespace: pod.GetNamespace()}
		if owner, ok := importerpod.Owner(pod); ok {
			key.Namespace, key.Name = owner.Namespace, owner.Name
		} else {
			key.Name = metav1.GetControllerOf(pod).Name
			if kind == v1alpha2.ClusterVirtualImageKind {
				key.Namespace = ""
			}
		}
		return []reconcile.Request{{NamespacedName: key}}
	}
}

func (x indexes[T]) secretOf(object client.Object) []string {
	typed, ok := object.(T)
	if !ok {
		return nil
	}
	spec, _ := x.adapter.Read(typed)
	if image := spec.Source.ContainerImage; image != nil && image.Secret.Name != "" {
		return []string{image.Secret.String()}
	}
	return nil
}

func (x indexes[T]) claimOf(object client.Object) string {
	return filling.Owner{Kind: x.adapter.Kind, UID: object.GetUID()}.ClaimName()
}

// unready marks the images on volumes that a change of the storage may be news for.
func (x indexes[T]) unready(object client.Object) []string {
	typed, ok := object.(T)
	if !ok {
		return nil
	}
	spec, status := x.adapter.Read(typed)
	if !(Image{Spec: spec}).OnVolume() || status.isReady() {
		return nil
	}
	return []string{unreadyMarker}
}

func (x indexes[T]) waitingForSecret(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, secret client.Object) []reconcile.Request {
		return x.list(ctx, reader, indexSecret, client.ObjectKeyFromObject(secret).String())
	}
}

// watchVolumes adds what only images on volumes depend on.
func (x indexes[T]) watchVolumes(blueprint *builder.Builder, reader client.Reader, options Options) {
	// A claim is known by its name, which holds the image's uid: its owners change,
	// and may be gone before it is.
	byClaim := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, claim client.Object) []reconcile.Request {
		if !strings.HasPrefix(claim.GetName(), filling.ImageClaimPrefix) {
			return nil
		}
		return x.list(ctx, reader, indexClaim, claim.GetName(), client.InNamespace(claim.GetNamespace()))
	})
	byStorage := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return x.list(ctx, reader, indexUnready, unreadyMarker)
	})
	blueprint.Watches(&corev1.PersistentVolumeClaim{}, byClaim)
	blueprint.Watches(&storagev1.StorageClass{}, byStorage)
	for _, kind := range options.Filler.Kinds() {
		blueprint.Owns(kind)
	}
	if options.WakeClaims != nil {
		blueprint.WatchesRawSource(source.Channel(options.WakeClaims, byClaim))
	}
}

func (x indexes[T]) list(ctx context.Context, reader client.Reader, index, value string, options ...client.ListOption) []reconcile.Request {
	list := x.adapter.NewList()
	options = append(options, client.MatchingFields{x.prefix + index: value}, client.UnsafeDisableDeepCopy)
	if err := reader.List(ctx, list, options...); err != nil {
		// The cache answers; it fails only when the manager stops.
		ctrl.LoggerFrom(ctx).Error(err, "Listing the images that an event is about")
		return nil
	}
	return shared.Requests(list)
}
