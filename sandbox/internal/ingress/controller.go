// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

type targetKey struct{}

func withTarget(ctx context.Context, target *url.URL) context.Context {
	return context.WithValue(ctx, targetKey{}, target)
}

// Controller keeps a proxy's table equal to what the cluster's objects say.
type Controller struct {
	Client kubernetes.Interface
	Class  string
	Proxy  *Proxy
	Log    *slog.Logger

	problems []string
}

// Run keeps the table until the context ends. It returns early only if the objects
// can't be watched.
func (c *Controller) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	all := informers.NewSharedInformerFactory(c.Client, 0)
	// Only certificates: nobody else's Secrets are kept in memory.
	certificates := informers.NewSharedInformerFactoryWithOptions(c.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)).String()
	}))
	ingresses := all.Networking().V1().Ingresses().Informer()
	services := all.Core().V1().Services().Informer()
	secrets := certificates.Core().V1().Secrets().Informer()
	for _, informer := range []cache.SharedIndexInformer{ingresses, services, secrets} {
		if _, err := informer.AddEventHandler(wake(changed)); err != nil {
			return fmt.Errorf("watch objects: %w", err)
		}
	}
	for _, factory := range []informers.SharedInformerFactory{all, certificates} {
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
	}
	for {
		c.use(NewTable(c.Class, Objects{
			Ingresses: listed[*networkingv1.Ingress](ingresses),
			Services:  listed[*corev1.Service](services),
			Secrets:   listed[*corev1.Secret](secrets),
		}))
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// use tells of what is wrong when that changes.
func (c *Controller) use(table *Table) {
	c.Proxy.Use(table)
	if slices.Equal(table.Problems, c.problems) {
		return
	}
	c.problems = table.Problems
	for _, problem := range table.Problems {
		c.Log.Warn("Ingress not usable", "problem", problem)
	}
}

// wake makes many changes one wish for a new table.
func wake(changed chan struct{}) cache.ResourceEventHandler {
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() },
	}
}

// listed sorts by name, so that of two rules for the same place always the same wins.
func listed[T metav1.Object](informer cache.SharedIndexInformer) []T {
	keys := informer.GetStore().ListKeys()
	slices.Sort(keys)
	var objects []T
	for _, key := range keys {
		if item, found, err := informer.GetStore().GetByKey(key); err == nil && found {
			objects = append(objects, item.(T))
		}
	}
	return objects
}
