// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllertest runs controllers against the real API server of package
// apiserver, counts what they write, and makes chosen writes fail.
package controllertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

// patience is how long a test waits for what must happen. It is long because the
// machine may be busy; a test that passes does not wait for it.
const patience = 3 * time.Minute

// errCrash is what a write that was made to fail returns.
var errCrash = errors.New("the controller crashed here")

// Cluster is a running manager and a client of its own for the test.
type Cluster struct {
	// Client reads and writes without a cache and is not counted.
	Client client.Client

	t      testing.TB
	mu     sync.Mutex
	writes []written
	crash  func(write string) bool
}

// written is a write of the controllers, and the name and the namespace of its object.
type written struct{ write, namespace, name string }

// Start runs the controllers that setup registers until the test ends. Scheme knows
// all of their kinds.
func Start(t testing.TB, scheme *runtime.Scheme, setup func(ctrl.Manager) error) *Cluster {
	t.Helper()
	restConfig := apiserver.Config(t)
	direct, err := client.New(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("client of the test: %v", err)
	}
	c := &Cluster{Client: direct, t: t}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		// One test binary runs the same controller many times.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		// As in the program: a Secret is read from the server, not from a cache that
		// may be behind the event that told of it.
		Client:    client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
		NewClient: c.newClient,
	})
	if err != nil {
		t.Fatalf("manager: %v", err)
	}
	if err := setup(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	return c
}

// newClient makes the manager's client: cached reads, and writes that are noted.
func (c *Cluster) newClient(restConfig *rest.Config, options client.Options) (client.Client, error) {
	inner, err := client.NewWithWatch(restConfig, options)
	if err != nil {
		return nil, err
	}
	return interceptor.NewClient(inner, interceptor.Funcs{
		Create: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return c.write("create", o, func() error { return w.Create(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return c.write("delete", o, func() error { return w.Delete(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, w client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return c.write("update", o, func() error { return w.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, w client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.write("patch", o, func() error { return w.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, w client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return c.write("apply", o, func() error { return w.Apply(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, w client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return c.write("patch-"+sub, o, func() error { return w.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
	}), nil
}

// write notes a write and carries it out, unless it is to crash. Every other crash
// comes after the write: the controller then does not know that it was done.
func (c *Cluster) write(verb string, object any, do func() error) error {
	name := verb + " " + kindOf(object)
	c.mu.Lock()
	c.writes = append(c.writes, describe(name, object))
	crash := c.crash != nil && c.crash(name)
	after := len(c.writes)%2 == 0
	c.mu.Unlock()
	if crash && !after {
		return errCrash
	}
	if err := do(); err != nil {
		return err
	}
	if crash {
		return errCrash
	}
	return nil
}

// kindOf is the last part of the Go type, or the kind of an untyped object.
func kindOf(object any) string {
	if untyped, ok := object.(interface{ GetKind() string }); ok && untyped.GetKind() != "" {
		return untyped.GetKind()
	}
	name := fmt.Sprintf("%T", object)
	return name[strings.LastIndex(name, ".")+1:]
}

// describe adds to a write what its object says about itself.
func describe(write string, object any) written {
	w := written{write: write}
	if named, ok := object.(interface {
		GetNamespace() string
		GetName() string
	}); ok {
		w.namespace, w.name = named.GetNamespace(), named.GetName()
	}
	return w
}

// Writes returns what the controllers have written so far, as "verb Kind". With
// places, each a namespace or the name of an object, it is only what they have
// written there: the tests of a package share a server, and an object that another
// one left may come to its next attempt at any time.
func (c *Cluster) Writes(places ...string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, w := range c.writes {
		if len(places) == 0 || slices.Contains(places, w.namespace) || slices.Contains(places, w.name) {
			names = append(names, w.write)
		}
	}
	return names
}

// CrashAt makes the n-th write from now on fail, counted from 1.
func (c *Cluster) CrashAt(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	c.crash = func(string) bool {
		count++
		return count == n
	}
}

// StaysQuiet fails the test if the controllers write anything while they have
// nothing to do, at the places that Writes takes.
func (c *Cluster) StaysQuiet(during time.Duration, places ...string) {
	c.t.Helper()
	before := len(c.Writes(places...))
	time.Sleep(during)
	if after := c.Writes(places...); len(after) != before {
		c.t.Errorf("written in the steady state: %q", after[before:])
	}
}

// Eventually waits until check finds nothing wrong.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("it did not come to that within %s: %v", patience, err)
}
