// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// moved is a guest that went from node-1 to node-2 and left a pod that has ended.
func moved(t *testing.T) func(*Observed) {
	return func(o *Observed) {
		running(t)(o)
		o.Guest.UID = "uid-of-guest"
		o.Guest.Status.NodeName = "node-2"
		o.Guest.Status.ActivePods = map[types.UID]string{"uid-of-left": "node-1", "uid-of-taker": "node-2"}
		o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
			MigrationUID: "uid-of-migration", SourceNode: "node-1", TargetNode: "node-2", EndTimestamp: ptr.To(metav1.NewTime(now)), Completed: true,
		}
		o.Pods = []corev1.Pod{
			podOfGuest("virt-launcher-web-left", "uid-of-left", "node-1", corev1.PodSucceeded),
			podOfGuest("virt-launcher-web-taker", "uid-of-taker", "node-2", corev1.PodRunning),
		}
	}
}

func podOfGuest(name string, uid types.UID, node string, phase corev1.PodPhase) corev1.Pod {
	pod := guestPod(name, uid, "10.66.10.5")
	pod.Spec.NodeName, pod.Status.Phase = node, phase
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance", Name: "web", UID: "uid-of-guest", Controller: ptr.To(true),
	}}
	return pod
}

func TestPodsThatTheGuestHasLeftAreDeleted(t *testing.T) {
	migration := func(phase virtv1.VirtualMachineInstanceMigrationPhase) func(*Observed) {
		return func(o *Observed) {
			o.Migration = &virtv1.VirtualMachineInstanceMigration{Status: virtv1.VirtualMachineInstanceMigrationStatus{Phase: phase}}
		}
	}
	left := []string{"virt-launcher-web-left"}
	tests := map[string]struct {
		change func(*Observed)
		want   []string
	}{
		"it ended well":    {func(*Observed) {}, left},
		"it failed":        {func(o *Observed) { o.Pods[0].Status.Phase = corev1.PodFailed }, left},
		"it has not ended": {func(o *Observed) { o.Pods[0].Status.Phase = corev1.PodRunning }, nil},
		"it was to take the guest in and did not": {func(o *Observed) {
			o.Guest.Status.NodeName, o.Guest.Status.MigrationState.Completed, o.Guest.Status.MigrationState.Failed = "node-1", false, true
			o.Pods[0].Status.Phase, o.Pods[1].Status.Phase = corev1.PodRunning, corev1.PodFailed
		}, []string{"virt-launcher-web-taker"}},
		"the guest came back to its node": {func(o *Observed) {
			o.Guest.Status.NodeName = "node-1"
			o.Guest.Status.ActivePods["uid-of-next"] = "node-1"
			o.Pods[1].Status.Phase = corev1.PodSucceeded
			o.Pods = append(o.Pods, podOfGuest("virt-launcher-web-next", "uid-of-next", "node-1", corev1.PodRunning))
		}, []string{"virt-launcher-web-left", "virt-launcher-web-taker"}},
		"KubeVirt has forgotten the migration": {func(o *Observed) { o.Guest.Status.MigrationState = nil }, left},
		"the migration is under way":           {migration(virtv1.MigrationRunning), nil},
		"the guest still shows it under way":   {func(o *Observed) { o.Guest.Status.MigrationState.Completed = false }, nil},
		"the other pod is not the guest's yet": {func(o *Observed) { delete(o.Guest.Status.ActivePods, "uid-of-taker") }, nil},
		"the other pod has ended, too":         {func(o *Observed) { o.Pods[1].Status.Phase = corev1.PodFailed }, nil},
		"the other pod is not seen":            {func(o *Observed) { o.Pods = o.Pods[:1] }, nil},
		"the guest has not begun":              {func(o *Observed) { o.Guest.Status.Phase = virtv1.Scheduled }, nil},
		"the guest has ended":                  {func(o *Observed) { o.Guest.Status.Phase = virtv1.Succeeded }, nil},
		"the guest is going":                   {func(o *Observed) { o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }, nil},
		"it is of the guest before":            {func(o *Observed) { o.Pods[0].OwnerReferences[0].UID = "another" }, nil},
		"the guest is not the machine's":       {func(o *Observed) { o.Engine.OwnerReferences = nil }, nil},
		"there is no guest":                    {func(o *Observed) { o.Guest = nil }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(moved(t), test.change)
			var got []string
			for _, object := range decide(o).Delete {
				got = append(got, object.GetName())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("deletes %v, want %v", got, test.want)
			}
		})
	}
}
