// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// verdictPatience is how long a verdict may be on its way after its object is ready.
const verdictPatience = 5 * time.Second

// importers collects what importers say at their end. Their Pods go as soon as an
// object is ready, sooner than anybody could ask for them: so they are watched.
type importers struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	told    map[types.UID]verdict
	changed chan struct{}
	// patience is how long a verdict may be on its way.
	patience time.Duration
}

// verdict is what one importer said.
type verdict struct {
	// uid and name are of whom the importer worked for: an object, or the claim that
	// it filled.
	uid, name string
	took      time.Duration
}

func (c *cluster) watchImporters(ctx context.Context) (*importers, error) {
	ctx, cancel := context.WithCancel(ctx)
	begin := func() (watch.Interface, error) {
		return c.client.Watch(ctx, &corev1.PodList{}, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": importerpod.ContainerName})
	}
	pods, err := begin()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch the importers: %w", err)
	}
	seen := &importers{cancel: cancel, done: make(chan struct{}), told: map[types.UID]verdict{}, changed: make(chan struct{}, 1), patience: c.patience}
	go func() {
		defer close(seen.done)
		for err == nil {
			seen.follow(ctx, pods)
			pods.Stop()
			if ctx.Err() != nil {
				return
			}
			// The API server ends every watch after a while.
			pods, err = begin()
		}
	}()
	return seen, nil
}

// follow reads what a watch shows, until it or the context ends.
func (i *importers) follow(ctx context.Context, pods watch.Interface) {
	for {
		select {
		case event, open := <-pods.ResultChan():
			if !open {
				return
			}
			if pod, ok := event.Object.(*corev1.Pod); ok {
				i.read(pod)
			}
		case <-ctx.Done():
			return
		}
	}
}

// read keeps the verdict of a Pod that has come to its end.
func (i *importers) read(pod *corev1.Pod) {
	subject, known := importerpod.Owner(pod)
	result := importerpod.Read(pod).Result
	if !known || result == nil {
		return
	}
	i.mu.Lock()
	i.told[pod.UID] = verdict{uid: subject.UID, name: subject.Name, took: time.Duration(result.DurationSeconds * float64(time.Second))}
	i.mu.Unlock()
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// took returns how long importers moved bytes for an object that is ready, 0 if
// none of them says so.
func (i *importers) took(ctx context.Context, uid types.UID) time.Duration {
	patience := time.NewTimer(i.patience)
	defer patience.Stop()
	for {
		if took := i.sum(uid); took > 0 {
			return took
		}
		select {
		case <-i.changed:
		case <-patience.C:
			return 0
		case <-ctx.Done():
			return 0
		}
	}
}

// sum is of all importers that worked for the object: a disk's works for its claim.
func (i *importers) sum(uid types.UID) time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	var total time.Duration
	for _, v := range i.told {
		if v.uid == string(uid) || v.name == filling.DiskClaimPrefix+string(uid) {
			total += v.took
		}
	}
	return total
}

// stop ends the watch.
func (i *importers) stop() {
	i.cancel()
	<-i.done
}
