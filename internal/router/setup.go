// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/workqueue"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// settleTime gathers the kernel's changes: a device that comes or goes brings a
	// dozen of them.
	settleTime = 250 * time.Millisecond
	// retryFirst and retryLast bound the time between tries of what failed.
	retryFirst = 50 * time.Millisecond
	retryLast  = 30 * time.Second
)

// CacheOptions keep of each object only what routes depend on: every node watches
// every machine, so what is not kept counts many times over.
func CacheOptions() cache.Options { return cache.Options{DefaultTransform: keep} }

// keep returns an object with nothing but what this package reads.
func keep(object any) (any, error) {
	switch o := object.(type) {
	case *v1alpha2.VirtualMachine:
		return &v1alpha2.VirtualMachine{
			ObjectMeta: identity(&o.ObjectMeta), Status: v1alpha2.VirtualMachineStatus{IPAddress: o.Status.IPAddress},
		}, nil
	case *virtv1.VirtualMachineInstance:
		kept := &virtv1.VirtualMachineInstance{ObjectMeta: identity(&o.ObjectMeta)}
		kept.Status.Phase, kept.Status.NodeName = o.Status.Phase, o.Status.NodeName
		if state := o.Status.MigrationState; state != nil {
			kept.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
				SourceNode: state.SourceNode, TargetNode: state.TargetNode, Completed: state.Completed, Failed: state.Failed,
				TargetNodeDomainReadyTimestamp: state.TargetNodeDomainReadyTimestamp, EndTimestamp: state.EndTimestamp,
			}
		}
		return kept, nil
	case *corev1.Node:
		return &corev1.Node{
			ObjectMeta: identity(&o.ObjectMeta),
			Spec:       corev1.NodeSpec{PodCIDRs: o.Spec.PodCIDRs},
			Status:     corev1.NodeStatus{Addresses: o.Status.Addresses},
		}, nil
	case *unstructured.Unstructured:
		return keepCilium(o), nil
	}
	return object, nil
}

func keepCilium(node *unstructured.Unstructured) *unstructured.Unstructured {
	kept := &unstructured.Unstructured{}
	kept.SetGroupVersionKind(node.GroupVersionKind())
	kept.SetName(node.GetName())
	kept.SetUID(node.GetUID())
	kept.SetResourceVersion(node.GetResourceVersion())
	if addresses, found, _ := unstructured.NestedFieldNoCopy(node.Object, "spec", "addresses"); found {
		kept.Object["spec"] = map[string]any{"addresses": addresses}
	}
	return kept
}

func identity(in *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: in.Namespace, Name: in.Name, UID: in.UID, ResourceVersion: in.ResourceVersion,
		CreationTimestamp: in.CreationTimestamp, DeletionTimestamp: in.DeletionTimestamp,
	}
}

// Setup registers the reconciler for machines, guests, nodes and the kernel. The
// manager's cache has CacheOptions; events tells of the kernel's changes.
func (r *Reconciler) Setup(mgr ctrl.Manager, events func(ctx context.Context, changed func()) error) error {
	built, err := ctrl.NewControllerManagedBy(mgr).Named("router").
		Watches(&v1alpha2.VirtualMachine{}, toEverything()).
		Watches(&virtv1.VirtualMachineInstance{}, toEverything()).
		Watches(&corev1.Node{}, toEverything()).
		WatchesRawSource(kernelSource(events, r.Log.Error)).
		WithEventFilter(factsChanged()).
		WithOptions(controller.Options{
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryLast),
		}).
		Build(r)
	if err != nil {
		return err
	}
	r.watchCilium = ciliumWatcher(mgr, built)
	return nil
}

func toEverything() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
}

// factsChanged leaves out updates that change nothing of what is kept.
func factsChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.DeepCopyObject().(client.Object), e.ObjectNew.DeepCopyObject().(client.Object)
		for _, object := range []client.Object{before, after} {
			object.SetResourceVersion("")
			object.SetManagedFields(nil)
		}
		return !equality.Semantic.DeepEqual(before, after)
	}}
}

// kernelSource turns the kernel's changes into a request, at most one at a time.
func kernelSource(events func(context.Context, func()) error, logError func(string, ...any)) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		go func() {
			for ctx.Err() == nil {
				if err := events(ctx, func() { queue.AddAfter(everything, settleTime) }); err != nil {
					logError("watching the kernel's routes", "error", err)
				}
				// What happened meanwhile was not heard.
				queue.AddAfter(everything, settleTime)
				select {
				case <-ctx.Done():
				case <-time.After(retryLast):
				}
			}
		}()
		return nil
	})
}

// ciliumWatcher watches CiliumNodes from the first time on that they are served.
func ciliumWatcher(mgr ctrl.Manager, built controller.Controller) func() (bool, error) {
	watched := false
	return func() (bool, error) {
		if watched {
			return true, nil
		}
		_, err := mgr.GetRESTMapper().RESTMapping(ciliumNode.GroupKind(), ciliumNode.Version)
		switch {
		case meta.IsNoMatchError(err):
			return false, nil
		case err != nil:
			return false, err
		}
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(ciliumNode)
		if err := built.Watch(source.Kind[client.Object](mgr.GetCache(), object, toEverything(), factsChanged())); err != nil {
			return false, err
		}
		watched = true
		return true, nil
	}
}
