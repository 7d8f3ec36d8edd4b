// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// Options configure the controller of one kind.
type Options struct {
	Dependencies
	// Wake delivers an object with namespace and name for each report that an
	// importer of the kind has posted.
	Wake <-chan event.GenericEvent
	// Concurrency is how many images are reconciled at once; 0 means 4.
	Concurrency int
}

const defaultConcurrency = 4

// Setup registers the controller of a kind.
func Setup[T client.Object](mgr ctrl.Manager, name string, options Options, adapter Adapter[T]) error {
	if options.Concurrency == 0 {
		options.Concurrency = defaultConcurrency
	}
	reconciler := &Reconciler[T]{
		Executor:     shared.Executor{Client: mgr.GetClient(), Recorder: mgr.GetEventRecorderFor(name)},
		Dependencies: options.Dependencies,
		Adapter:      adapter,
	}
	// The status of the image itself is watched too: the helpers are removed by the
	// reconcile that sees the result in it.
	blueprint := ctrl.NewControllerManagedBy(mgr).
		Named(name).
		For(adapter.New()).
		// The Secret is not watched: that would take the right to read every Secret
		// of the cluster. The Pod tells all that has to be known about it.
		Owns(&corev1.Pod{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: options.Concurrency})
	if options.Wake != nil {
		blueprint.WatchesRawSource(source.Channel(options.Wake, &handler.EnqueueRequestForObject{}))
	}
	if err := blueprint.Complete(reconciler); err != nil {
		return fmt.Errorf("setting up the controller %s: %w", name, err)
	}
	return nil
}
