// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	pushers = 4
	// cycles of push, pull and often deletion, over all pushers.
	cycles = 1000
	// Few repositories and fewer disks: nearly every blob is wanted by several
	// pushers at a time, in one repository as in different ones.
	repositories = 3
	disks        = 4
	// Each pusher keeps fewer images than that: every run looks at all of them.
	kept = 6
	// collectEvery keeps the runs, each of which looks at everything that is stored,
	// from taking more of the machine than the pushes that they are beside.
	collectEvery = 3
	// heapGrowth is the percentage for runtime/debug.SetGCPercent: the registry takes
	// a buffer of megabytes for each of thousands of tiny blobs.
	heapGrowth = 1000
	// inMemory saves the syncing of thousands of small files.
	inMemory = "/dev/shm"
)

// worker is one of several importers, with the controller that deletes images.
type worker struct {
	t        testing.TB
	registry *dvcrtest.Registry
	random   *rand.Rand
	number   int
	images   []pushed
}

// pushed is an image that has to be there until it is deleted.
type pushed struct {
	repository, tag string
	disk            int
}

func (w *worker) cycle(n int) error {
	repository := fmt.Sprintf("vi/team/image-%d", w.random.IntN(repositories))
	other := fmt.Sprintf("vi/team/image-%d", w.random.IntN(repositories))
	image := pushed{repository: repository, disk: w.random.IntN(disks), tag: fmt.Sprintf("uid-%d-%d", w.number, n)}
	layer := diskOf(w.t, image.disk)
	client := newClient(w.t, w.registry, "VirtualImage/team/image/"+image.tag,
		token.Repository(repository, "pull", "push"), token.Repository(other, "pull"))
	if err := w.layer(client, repository, other, layer); err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	if err := client.publish(repository, image.tag, layer, image.tag); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	// What an importer itself reads back would stay for its grace period.
	node := newClient(w.t, w.registry, "node", token.Repository(repository, "pull"))
	if err := node.pull(repository, image.tag, layer); err != nil {
		return fmt.Errorf("pull at once: %w", err)
	}
	w.images = append(w.images, image)
	for len(w.images) > w.random.IntN(kept) {
		if err := w.deleteOne(); err != nil {
			return err
		}
	}
	return nil
}

// layer sees to it that the repository has the layer, in one of the ways that
// clients have.
func (w *worker) layer(client *client, repository, other string, layer []byte) error {
	way := w.random.IntN(3)
	if way == 0 {
		if found, err := client.has(repository, layer); found || err != nil {
			return err
		}
	}
	if way == 1 && repository != other {
		if mounted, err := client.mount(repository, other, layer); mounted || err != nil {
			return err
		}
	}
	return client.upload(repository, layer)
}

// deleteOne pulls one of the worker's images, whatever was collected since it
// was pushed, and deletes it.
func (w *worker) deleteOne() error {
	at := w.random.IntN(len(w.images))
	image := w.images[at]
	w.images = append(w.images[:at], w.images[at+1:]...)
	client := newClient(w.t, w.registry, token.IssuerName, token.Repository(image.repository, "pull", "delete"))
	if err := client.pull(image.repository, image.tag, diskOf(w.t, image.disk)); err != nil {
		return fmt.Errorf("pull before the deletion: %w", err)
	}
	return client.deleteImage(image.repository, diskOf(w.t, image.disk), image.tag)
}

// A thousand images are pushed and deleted while garbage is collected without a
// pause. No request fails, no image misses a blob, and in the end nothing is left.
func TestConcurrentPushesLoseNothing(t *testing.T) {
	if info, err := os.Stat(inMemory); err == nil && info.IsDir() {
		t.Setenv("TMPDIR", inMemory)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(heapGrowth))
	registry := dvcrtest.Start(t)
	ctx, stop := context.WithCancel(context.Background())
	var collecting, pushing sync.WaitGroup
	var total gc.Report
	var runs int
	// Cycles ask for runs; one that is under way meanwhile stands for several.
	pushed := make(chan struct{}, 1)
	collecting.Go(func() {
		for ctx.Err() == nil {
			<-pushed
			report, err := registry.Collector.Collect(context.Background())
			if err != nil {
				t.Errorf("collect: %v", err)
			}
			runs++
			total.Blobs += report.Blobs
			total.Links += report.Links
		}
	})
	workers := make([]*worker, pushers)
	var next atomic.Int64
	for number := range workers {
		w := &worker{t: t, registry: registry, number: number, random: rand.New(rand.NewPCG(1, uint64(number)))}
		workers[number] = w
		pushing.Go(func() {
			for n := next.Add(1); n <= cycles && !t.Failed(); n = next.Add(1) {
				if err := w.cycle(int(n)); err != nil {
					t.Errorf("cycle %d: %v", n, err)
				}
				if n%collectEvery != 0 {
					continue
				}
				select {
				case pushed <- struct{}{}:
				default:
				}
			}
		})
	}
	pushing.Wait()
	stop()
	close(pushed)
	collecting.Wait()
	t.Logf("%d runs beside %d pushes removed %d blobs and %d links", runs, cycles, total.Blobs, total.Links)
	// Without removals beside the pushes the test would prove nothing.
	if total.Blobs < cycles/10 || total.Links < cycles/10 {
		t.Errorf("only %d blobs and %d links were removed meanwhile", total.Blobs, total.Links)
	}
	leaveNothing(t, registry, workers)
}

func leaveNothing(t *testing.T, registry *dvcrtest.Registry, workers []*worker) {
	t.Helper()
	for _, w := range workers {
		for len(w.images) > 0 {
			if err := w.deleteOne(); err != nil {
				t.Error(err)
			}
		}
	}
	registry.Clock.Step(gc.DefaultGrace + gc.IdleUploadAge)
	_, err := registry.Collector.Collect(context.Background())
	if left := stored(t, registry); err != nil || len(left) > 0 {
		t.Error(errors.Join(err, fmt.Errorf("%d files are left, such as %s", len(left), left[0])))
	}
}
