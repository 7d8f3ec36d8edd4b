// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// importerPod is one that has ended with a message.
func importerPod(uid types.UID, owner, message string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: moduleNamespace, Name: "importer-" + string(uid), UID: uid, Labels: map[string]string{"app": "importer"},
			Annotations: map[string]string{importerpod.AnnotationOwner: owner},
		},
		Status: corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{
			Name: "importer", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: message}},
		}}},
	}
}

const (
	imageOwner = "VirtualImage/bench-1/image/image-uid"
	claimOwner = "PersistentVolumeClaim/bench-1/d8v-vd-disk-uid/claim-uid"
)

// An image that a disk was made of took longer than the disk: its time is not the
// disk's. A Pod that is shown again counts once.
func TestEachObjectHasItsOwnImporters(t *testing.T) {
	i := &importers{told: map[types.UID]verdict{}, changed: make(chan struct{}, 1), patience: time.Millisecond}
	for range 2 {
		for _, pod := range []*corev1.Pod{
			importerPod("1", imageOwner, `{"result":{"digest":"sha256:aa","durationSeconds":7.5}}`),
			importerPod("2", claimOwner, `{"result":{"durationSeconds":2.5}}`),
			importerPod("3", "VirtualDisk/bench-1/disk/disk-uid", `{"result":{"format":"qcow2","durationSeconds":0.25}}`),
			importerPod("4", claimOwner, `{"failure":{"reason":"Internal"}}`),
			importerPod("5", claimOwner, "killed"),
			importerPod("6", "nobody", `{"result":{"durationSeconds":9}}`),
		} {
			i.read(pod)
		}
	}
	for uid, want := range map[types.UID]time.Duration{
		"image-uid": 7500 * time.Millisecond, "disk-uid": 2750 * time.Millisecond, "claim-uid": 2500 * time.Millisecond, "other": 0,
	} {
		if got := i.took(t.Context(), uid); got != want {
			t.Errorf("%s took %s, want %s", uid, got, want)
		}
	}
}

// The Pod goes as soon as the image is ready: it is seen nevertheless, and also
// when the API server ends the watch in between.
func TestVerdictOfAPodThatIsGone(t *testing.T) {
	w := newWorld(t, "Ready")
	interrupted := &interrupting{WithWatch: w.client}
	w.client, w.patience = interrupted, time.Minute
	seen, err := w.watchImporters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer seen.stop()
	interrupted.first.Stop()
	for interrupted.watches() < 2 {
		time.Sleep(time.Millisecond)
	}
	pod := importerPod("1", imageOwner, `{"result":{"digest":"sha256:aa","durationSeconds":1.5}}`)
	if err := errors.Join(w.client.Create(t.Context(), pod), w.client.Delete(t.Context(), pod)); err != nil {
		t.Fatal(err)
	}
	if took := seen.took(t.Context(), "image-uid"); took != 1500*time.Millisecond {
		t.Errorf("took %s, want 1.5s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if took := seen.took(ctx, "another"); took != 0 {
		t.Errorf("took %s after a signal", took)
	}
}

// interrupting keeps the first watch, so that it can be ended.
type interrupting struct {
	client.WithWatch
	first  watch.Interface
	number chan struct{}
}

func (i *interrupting) Watch(ctx context.Context, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
	begun, err := i.WithWatch.Watch(ctx, list, options...)
	if i.first == nil {
		i.first, i.number = begun, make(chan struct{}, 16)
	}
	i.number <- struct{}{}
	return begun, err
}

func (i *interrupting) watches() int { return len(i.number) }

func TestWatchThatIsRefused(t *testing.T) {
	w := newWorld(t, "Ready")
	w.client = refusing{w.client}
	_, _, err := w.make(t.Context(), []object{w.diskFromImage()})
	if err == nil || err.Error() != "watch the importers: forbidden" {
		t.Errorf("got %v", err)
	}
	w.expect(t, "delete disk")
}

type refusing struct{ client.WithWatch }

func (refusing) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, errors.New("forbidden")
}
