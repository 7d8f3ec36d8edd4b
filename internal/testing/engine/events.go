// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// shutdownTime is how long a guest takes to shut down when its pod is deleted.
const shutdownTime = time.Second

// Reboot lets the guest of a machine reboot. Without a reboot policy nobody outside
// notices; with Terminate the guest ends as if it had been shut down.
func (e *Engine) Reboot(t testing.TB, name string) {
	t.Helper()
	guest := &virtv1.VirtualMachineInstance{}
	if err := e.client.Get(t.Context(), client.ObjectKey{Namespace: e.namespace, Name: name}, guest); err != nil {
		t.Fatalf("rebooting %s: %v", name, err)
	}
	if ptr.Deref(guest.Spec.Domain.RebootPolicy, "") == virtv1.RebootPolicyTerminate {
		e.End(t, name, virtv1.Succeeded)
	}
}

// DeletePod deletes the pod of a machine's guest behind the engine's back.
func (e *Engine) DeletePod(t testing.TB, name string) {
	t.Helper()
	guest := &virtv1.VirtualMachineInstance{}
	if err := e.client.Get(t.Context(), client.ObjectKey{Namespace: e.namespace, Name: name}, guest); err != nil {
		t.Fatalf("deleting the pod of %s: %v", name, err)
	}
	pods, err := e.podsOf(t.Context(), guest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		if err := e.client.Delete(t.Context(), &pods[i], client.GracePeriodSeconds(30)); err != nil {
			t.Fatal(err)
		}
	}
}

// losesItsPod tells that the guest has been shut down, because its pod is deleted.
func (e *Engine) losesItsPod(ctx context.Context, guest *virtv1.VirtualMachineInstance) (bool, error) {
	if guest.Status.Phase != virtv1.Running {
		return false, nil
	}
	pods, err := e.podsOf(ctx, guest)
	if err != nil {
		return false, err
	}
	for i := range pods {
		pod := &pods[i]
		if _, active := guest.Status.ActivePods[pod.UID]; !active || pod.DeletionTimestamp == nil {
			continue
		}
		asked := pod.DeletionTimestamp.Add(-time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second)
		if time.Since(asked) > shutdownTime {
			return true, nil
		}
	}
	return false, nil
}

// shutDown ends the guest as a shutdown from inside does.
func (e *Engine) shutDown(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
	guest.Status.Phase = virtv1.Succeeded
	guest.Status.PhaseTransitionTimestamps = append(guest.Status.PhaseTransitionTimestamps, virtv1.VirtualMachineInstancePhaseTransitionTimestamp{
		Phase: virtv1.Succeeded, PhaseTransitionTimestamp: metav1.Now(),
	})
	return e.client.Status().Update(ctx, guest)
}
