// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster plays what a cluster has beside its API server: the provisioner and
// the binder of volumes, the protection of claims in use, the kubelet of importers, and
// the garbage collector. Guests and their pods are the engine's (package engine).
//
// The storage makes a volume as soon as it is asked for one, a claim with a
// dataSourceRef gets the volume that is handed over to it, and every importer finds
// what Result says.
package cluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// Provisioner is what storage classes name to get volumes here.
	Provisioner = "storage.example.org"
	// interval is the pace of the script.
	interval = 20 * time.Millisecond

	protection = "kubernetes.io/pvc-protection"
	importer   = "importer"
)

// Result is what every importer finds.
func Result() *report.Result {
	return &report.Result{
		Digest: "sha256:11", Format: "qcow2", VirtualSizeBytes: 1 << 30, StoredSizeBytes: 1 << 20, AverageBytesPerSecond: 1 << 20, DurationSeconds: 1,
	}
}

// script is the play of one test.
type script struct {
	client client.Client
	// live reads past the cache that the client may have.
	live client.Reader
	// garbage are the kinds whose objects go with their owners.
	garbage []client.ObjectList
}

// Start plays in all namespaces until the test ends. The client may read from a cache:
// what was decided from too old a state is refused and done again. Garbage names the
// kinds, beside pods and claims, whose objects go with their owners.
func Start(t testing.TB, c client.Client, live client.Reader, garbage ...client.ObjectList) {
	t.Helper()
	s := &script{client: c, live: live, garbage: append([]client.ObjectList{&corev1.PodList{}, &corev1.PersistentVolumeClaimList{}}, garbage...)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := s.step(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("scripted cluster: %v", err)
			}
			time.Sleep(interval)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// step does whatever there is to do.
func (s *script) step(ctx context.Context) error {
	claims, volumes, pods := &corev1.PersistentVolumeClaimList{}, &corev1.PersistentVolumeList{}, &corev1.PodList{}
	if err := errors.Join(s.client.List(ctx, claims), s.client.List(ctx, volumes), s.client.List(ctx, pods)); err != nil {
		return err
	}
	var errs []error
	for i := range claims.Items {
		errs = append(errs, outdated(s.stepClaim(ctx, &claims.Items[i], volumes.Items)))
	}
	for i := range volumes.Items {
		errs = append(errs, outdated(s.stepVolume(ctx, &volumes.Items[i])))
	}
	for i := range pods.Items {
		errs = append(errs, outdated(s.stepPod(ctx, &pods.Items[i])))
	}
	return errors.Join(append(errs, outdated(s.collectGarbage(ctx)))...)
}

// outdated drops the answers to what was decided from an old state.
func outdated(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (s *script) stepClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, volumes []corev1.PersistentVolume) error {
	if claim.DeletionTimestamp != nil {
		left := slices.DeleteFunc(slices.Clone(claim.Finalizers), func(name string) bool { return name == protection })
		if len(left) == len(claim.Finalizers) {
			return nil
		}
		claim.Finalizers = left
		return s.client.Update(ctx, claim)
	}
	at := slices.IndexFunc(volumes, func(volume corev1.PersistentVolume) bool {
		return volume.Spec.ClaimRef != nil && volume.Spec.ClaimRef.UID == claim.UID
	})
	switch {
	case at < 0 && claim.Spec.DataSourceRef == nil && claim.Spec.VolumeName == "":
		return s.client.Create(ctx, newVolume(claim))
	case at < 0:
		return nil
	case claim.Spec.VolumeName == "":
		claim.Spec.VolumeName = volumes[at].Name
		return s.client.Update(ctx, claim)
	}
	asked := claim.Spec.Resources.Requests.Storage()
	if claim.Status.Phase == corev1.ClaimBound && asked.Cmp(*claim.Status.Capacity.Storage()) <= 0 {
		return nil
	}
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, corev1.ResourceList{corev1.ResourceStorage: *asked}
	return s.client.Status().Update(ctx, claim)
}

func newVolume(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID)},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: claim.Spec.AccessModes, VolumeMode: claim.Spec.VolumeMode, Capacity: claim.Spec.Resources.Requests,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: Provisioner, VolumeHandle: string(claim.UID)},
			},
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
		},
	}
	if claim.Spec.StorageClassName != nil {
		volume.Spec.StorageClassName = *claim.Spec.StorageClassName
	}
	return volume
}

// stepVolume deletes a volume whose claim is gone, unless it is to be kept.
func (s *script) stepVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	ref := volume.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := s.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, claim)
	switch {
	case err == nil && claim.UID == ref.UID:
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	case volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
		return nil
	case volume.DeletionTimestamp == nil:
		return s.client.Delete(ctx, volume, client.Preconditions{ResourceVersion: &volume.ResourceVersion})
	}
	volume.Finalizers = nil
	return s.client.Update(ctx, volume)
}

// stepPod runs an importer to its good end.
func (s *script) stepPod(ctx context.Context, pod *corev1.Pod) error {
	if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == importer }) {
		return nil
	}
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	switch {
	case pod.DeletionTimestamp != nil:
		return s.client.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.Status.Phase == corev1.PodPending, pod.Status.Phase == "":
		pod.Status.Phase = corev1.PodRunning
	case pod.Status.Phase == corev1.PodRunning:
		message, err := report.Termination{Result: Result()}.Marshal()
		if err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodSucceeded
		state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.Now()}}
	default:
		return nil
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: importer, Image: importer, ImageID: importer, State: state}}
	return s.client.Status().Update(ctx, pod)
}
