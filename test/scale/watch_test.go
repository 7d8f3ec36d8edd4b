// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// patience is how long all machines may take: the engine is one script for all.
const patience = 30 * time.Minute

// watch counts the machines that run and notes when the program last wrote a status.
func (c *fleet) watch(ctx context.Context, reader cache.Cache) {
	c.b.Helper()
	for _, object := range []client.Object{&v1alpha2.VirtualMachine{}, &v1alpha2.VirtualDisk{}, &v1alpha2.VirtualMachineIPAddress{}} {
		informer, err := reader.GetInformer(ctx, object)
		if err != nil {
			c.b.Fatal(err)
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    c.see,
			UpdateFunc: func(_, object any) { c.see(object) },
		})
		if err != nil {
			c.b.Fatal(err)
		}
	}
}

func (c *fleet) see(object any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = time.Now()
	if machine, ok := object.(*v1alpha2.VirtualMachine); ok && machine.Status.Phase == v1alpha2.MachineRunning {
		c.running[machine.Name] = true
	}
}

// waitCalm waits until so many machines run and nothing changes any more.
func (c *fleet) waitCalm(count int) {
	c.b.Helper()
	begin := time.Now()
	for {
		c.mu.Lock()
		running, changed := len(c.running), c.changed
		c.mu.Unlock()
		if changed.Before(begin) {
			changed = begin
		}
		if running >= count && time.Since(changed) > calm {
			return
		}
		if time.Since(begin) > patience {
			c.b.Fatalf("%d machines run after %s", running, patience)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
