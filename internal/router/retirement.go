// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"fmt"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Retirement knows whether the router ends for good. A pod that is replaced and one
// whose module was disabled get the same signal, and after the latter its rights may
// be gone already; so its DaemonSet is watched all the time, and what counts is
// whether it was seen to go.
type Retirement struct {
	Client client.WithWatch
	// DaemonSet is the router's own.
	DaemonSet types.NamespacedName

	due atomic.Bool
}

// Due tells whether the DaemonSet is gone or going.
func (r *Retirement) Due() bool { return r.due.Load() }

// Start watches until the context ends.
func (r *Retirement) Start(ctx context.Context) error {
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: r.listWatch(),
		ObjectType:    &appsv1.DaemonSet{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    r.note,
			UpdateFunc: func(_, object any) { r.note(object) },
			DeleteFunc: func(any) { r.due.Store(true) },
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

func (r *Retirement) note(object any) {
	if found, ok := object.(*appsv1.DaemonSet); ok {
		r.due.Store(found.DeletionTimestamp != nil)
	}
}

// listWatch asks for the one object by name, which is all that the router may see.
func (r *Retirement) listWatch() *cache.ListWatch {
	options := func(in metav1.ListOptions) *client.ListOptions {
		return &client.ListOptions{
			Namespace: r.DaemonSet.Namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", r.DaemonSet.Name), Raw: &in,
		}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, in metav1.ListOptions) (runtime.Object, error) {
			out := &appsv1.DaemonSetList{}
			if err := r.Client.List(ctx, out, options(in)); err != nil {
				return nil, fmt.Errorf("listing the own DaemonSet: %w", err)
			}
			return out, nil
		},
		WatchFuncWithContext: func(ctx context.Context, in metav1.ListOptions) (watch.Interface, error) {
			return r.Client.Watch(ctx, &appsv1.DaemonSetList{}, options(in))
		},
	}
}
