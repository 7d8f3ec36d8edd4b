// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// calm is how long changes are collected: Helm writes all objects of a module at once,
// and each new configuration costs Prometheus some work.
const calm = time.Second

// patience is how long it takes to look again for what was missing.
const patience = 5 * time.Second

// Operator keeps the configuration of a Prometheus equal to the cluster's objects.
type Operator struct {
	Dynamic dynamic.Interface
	Client  kubernetes.Interface
	// Dir is the folder of the configuration.
	Dir string
	// Changed is called after the first configuration was written, and after each
	// change.
	Changed func() error
	Log     *slog.Logger

	problem string
}

// Run keeps the configuration until the context ends.
func (o *Operator) Run(ctx context.Context) error {
	woken := make(chan struct{}, 1)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(o.Dynamic, 0, metav1.NamespaceAll, func(list *metav1.ListOptions) {
		list.LabelSelector = Selector
	})
	monitors, rules := factory.ForResource(PodMonitors).Informer(), factory.ForResource(PrometheusRules).Informer()
	for _, informer := range []cache.SharedIndexInformer{monitors, rules} {
		if _, err := informer.AddEventHandler(wake(woken)); err != nil {
			return fmt.Errorf("watch objects: %w", err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for first := true; ctx.Err() == nil; first = false {
		changed, err := o.write(ctx, listed(monitors), listed(rules))
		if err != nil {
			return err
		}
		if changed || first {
			if err := o.Changed(); err != nil {
				return err
			}
		}
		if !o.next(ctx, woken) {
			break
		}
	}
	return nil
}

// next waits for a change and then for those that come with it. Secrets are not
// watched: as long as something is missing it looks again after a while.
func (o *Operator) next(ctx context.Context, woken <-chan struct{}) bool {
	var again <-chan time.Time
	if o.problem != "" {
		again = time.After(patience)
	}
	select {
	case <-ctx.Done():
		return false
	case <-again:
	case <-woken:
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(calm):
		return true
	}
}

// write tells once of what it could not use.
func (o *Operator) write(ctx context.Context, monitors, rules []*unstructured.Unstructured) (bool, error) {
	files, err := Render(monitors, rules, o.secret(ctx))
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != o.problem && problem != "" {
		o.Log.Warn("objects not used", "problem", problem)
	}
	o.problem = problem
	return files.Write(o.Dir)
}

func (o *Operator) secret(ctx context.Context) Secrets {
	return func(namespace, name, key string) (string, error) {
		secret, err := o.Client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if len(secret.Data[key]) == 0 {
			return "", fmt.Errorf("the Secret %s/%s has no %s", namespace, name, key)
		}
		return string(secret.Data[key]), nil
	}
}

// wake makes many changes one wish for a new configuration.
func wake(woken chan<- struct{}) cache.ResourceEventHandler {
	notify := func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() },
	}
}

// listed sorts by name, so that equal objects make equal files.
func listed(informer cache.SharedIndexInformer) []*unstructured.Unstructured {
	keys := informer.GetStore().ListKeys()
	slices.Sort(keys)
	var objects []*unstructured.Unstructured
	for _, key := range keys {
		if item, found, err := informer.GetStore().GetByKey(key); err == nil && found {
			objects = append(objects, item.(*unstructured.Unstructured))
		}
	}
	return objects
}
