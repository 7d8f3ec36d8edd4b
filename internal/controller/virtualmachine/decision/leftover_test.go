// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"slices"
	"testing"
	"time"

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
		"that was refused":                     {func(o *Observed) { o.Refusal = "a policy forbids it" }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(moved(t), test.change)
			var got []string
			for _, object := range Decide(o).Delete {
				got = append(got, object.GetName())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("deletes %v, want %v", got, test.want)
			}
		})
	}
}

// A volume that is plugged in has a pod that belongs to the one that was left, and
// virt-controller needs both to count its deletion.
func TestPodsWithAttachmentsStayAWhile(t *testing.T) {
	plugged := func(o *Observed) {
		o.Guest.Status.VolumeStatus = []virtv1.VolumeStatus{{Name: "vd-root"}, {Name: "vd-data", HotplugVolume: &virtv1.HotplugVolumeStatus{}}}
	}
	ended := func(pod int, ago ...time.Duration) func(*Observed) {
		return func(o *Observed) {
			for _, each := range ago {
				o.Pods[pod].Status.ContainerStatuses = append(o.Pods[pod].Status.ContainerStatuses, corev1.ContainerStatus{
					State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-each))}},
				})
			}
		}
	}
	failedToo := func(o *Observed) {
		o.Pods = append(o.Pods, podOfGuest("virt-launcher-web-third", "uid-of-third", "node-3", corev1.PodFailed))
	}
	for name, test := range map[string]struct {
		changes []func(*Observed)
		deletes int
		next    time.Duration
	}{
		"just now":                      {[]func(*Observed){plugged, ended(0, 0)}, 0, 10 * time.Second},
		"its last container":            {[]func(*Observed){plugged, ended(0, time.Minute, 4*time.Second, 7*time.Second)}, 0, 6 * time.Second},
		"long enough ago":               {[]func(*Observed){plugged, ended(0, 10*time.Second)}, 1, 0},
		"nobody knows when":             {[]func(*Observed){plugged}, 1, 0},
		"nothing was plugged in":        {[]func(*Observed){ended(0, 0)}, 1, 0},
		"two, the sooner is waited for": {[]func(*Observed){plugged, failedToo, ended(0, 2*time.Second), ended(2, 3*time.Second)}, 0, 7 * time.Second},
		"two, and one is due":           {[]func(*Observed){plugged, failedToo, ended(0, 2*time.Second), ended(2, 30*time.Second)}, 1, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			decided := Decide(observation(append([]func(*Observed){moved(t)}, test.changes...)...))
			if len(decided.Delete) != test.deletes || decided.RequeueAfter != test.next {
				t.Errorf("deletes %d, next in %s; want %d, %s", len(decided.Delete), decided.RequeueAfter, test.deletes, test.next)
			}
		})
	}
}

func TestSoonest(t *testing.T) {
	for _, test := range [][3]time.Duration{{0, 0, 0}, {1, 0, 1}, {0, 2, 2}, {1, 2, 1}, {3, 2, 2}} {
		if got := soonest(test[0], test[1]); got != test[2] {
			t.Errorf("of %d and %d: %d", test[0], test[1], got)
		}
	}
}
