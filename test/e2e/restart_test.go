// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// restartController kills the controller without asking, as a node that dies does.
func restartController(ctx context.Context, t *testing.T) {
	t.Helper()
	restart(ctx, t, "virtualization-controller")
}

// restart kills the pods of one of the module's programs.
func restart(ctx context.Context, t *testing.T, app string) {
	t.Helper()
	pods := &corev1.PodList{}
	err := kube.List(ctx, pods, client.InNamespace(moduleNamespace), client.MatchingLabels{"app": app})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("the pods of %s: %d, %v", app, len(pods.Items), err)
	}
	for i := range pods.Items {
		if err := kube.Delete(ctx, &pods.Items[i], client.GracePeriodSeconds(0)); err != nil {
			t.Fatal(err)
		}
	}
}

// podsSeen collects the pods that appear in a namespace while it runs.
type podsSeen struct {
	mu   sync.Mutex
	uids map[types.UID]string
}

func watchPods(ctx context.Context, t *testing.T, namespace string) *podsSeen {
	t.Helper()
	seen := &podsSeen{uids: map[types.UID]string{}}
	watcher, err := kube.Watch(ctx, &corev1.PodList{}, client.InNamespace(namespace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Stop)
	go func() {
		for event := range watcher.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type == watch.Added {
				seen.mu.Lock()
				seen.uids[pod.UID] = pod.Name
				seen.mu.Unlock()
			}
		}
	}()
	return seen
}

func (p *podsSeen) count(prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, name := range p.uids {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

func TestControllerRestartInTheMiddleOfAnImport(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	seen := watchPods(ctx, t, moduleNamespace)
	source := image(ctx, t, namespace, "debian", "debian-13.qcow2")
	// On an idle machine the whole import takes a second: the controller is killed
	// as soon as the importer is there.
	err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(context.Context) (bool, error) {
		return seen.count("d8v-vi-importer-"+string(source.UID)) == 1, nil
	})
	if err != nil {
		t.Fatalf("no importer came: %v", err)
	}
	restartController(ctx, t)
	last := 0
	waitFor(ctx, t, source, "never became Ready", func(vi *v1alpha2.VirtualImage) bool {
		progress, _ := strconv.Atoi(strings.TrimSuffix(vi.Status.Progress, "%"))
		if progress < last {
			t.Errorf("the progress went back from %d to %d", last, progress)
		}
		last = progress
		return vi.Status.Phase == v1alpha2.ImageReady
	})
	if n := seen.count("d8v-vi-importer-" + string(source.UID)); n != 1 {
		t.Errorf("%d importers ran, want 1", n)
	}
}

func TestControllerRestartInTheMiddleOfABoot(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
	seen := watchPods(ctx, t, namespace)
	m := machine(ctx, t, namespace, "web", "root")
	waitFor(ctx, t, m, "never began", func(*v1alpha2.VirtualMachine) bool { return seen.count("virt-launcher-") == 1 })
	restartController(ctx, t)
	waitReady(ctx, t, m)
	openConsole(ctx, t, namespace, "web").expect(ctx, "tiny#")
	if n := seen.count("virt-launcher-"); n != 1 {
		t.Errorf("%d launchers ran, want 1", n)
	}
	claims := &v1alpha2.VirtualMachineIPAddressList{}
	if err := kube.List(ctx, claims, client.InNamespace(namespace)); err != nil || len(claims.Items) != 1 {
		t.Errorf("%d addresses, %v; want 1", len(claims.Items), err)
	}
	remove(ctx, t, m)
	waitGone(ctx, t, m)
}
