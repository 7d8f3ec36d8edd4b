// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// shown is what an object says of itself, as far as the invariants are about it.
type shown struct {
	kind       string
	phase      string
	progress   string
	generation int64
	deleting   bool
}

func shownBy(object client.Object) shown {
	out := shown{generation: object.GetGeneration(), deleting: object.GetDeletionTimestamp() != nil}
	switch o := object.(type) {
	case *v1alpha2.VirtualMachine:
		out.kind, out.phase = v1alpha2.VirtualMachineKind, string(o.Status.Phase)
	case *v1alpha2.VirtualDisk:
		out.kind, out.phase, out.progress = v1alpha2.VirtualDiskKind, string(o.Status.Phase), o.Status.Progress
	case *v1alpha2.VirtualImage:
		out.kind, out.phase, out.progress = v1alpha2.VirtualImageKind, string(o.Status.Phase), o.Status.Progress
	case *v1alpha2.ClusterVirtualImage:
		out.kind, out.phase, out.progress = v1alpha2.ClusterVirtualImageKind, string(o.Status.Phase), o.Status.Progress
	case *v1alpha2.VirtualMachineBlockDeviceAttachment:
		out.kind, out.phase = v1alpha2.VirtualMachineBlockDeviceAttachmentKind, string(o.Status.Phase)
	case *v1alpha2.VirtualMachineOperation:
		out.kind, out.phase, out.progress = v1alpha2.VirtualMachineOperationKind, string(o.Status.Phase), o.Status.Progress
	}
	return out
}

// forbiddenSteps lists for each kind which phases must not follow a phase while
// the spec stays as it is. Every kind is also forbidden to lose its phase, and to
// come back from Terminating.
var forbiddenSteps = map[string]map[string][]string{
	// A guest that was lost is started anew; that is told apart by the guest itself.
	v1alpha2.VirtualMachineKind: {
		"Stopped": {"Stopping", "Migrating", "Pause"},
	},
	v1alpha2.VirtualDiskKind:         {"Ready": {"Pending", "Provisioning", "WaitForUserUpload", "WaitForFirstConsumer"}},
	v1alpha2.VirtualImageKind:        {"Ready": {"Pending", "Provisioning", "WaitForUserUpload"}},
	v1alpha2.ClusterVirtualImageKind: {"Ready": {"Pending", "Provisioning", "WaitForUserUpload"}},
	v1alpha2.VirtualMachineBlockDeviceAttachmentKind: {
		"InProgress": {"Pending"},
	},
	v1alpha2.VirtualMachineOperationKind: {
		"InProgress": {"Pending"},
		"Completed":  {"Pending", "InProgress", "Failed", "Superseded"},
		"Failed":     {"Pending", "InProgress", "Completed", "Superseded"},
		"Superseded": {"Pending", "InProgress", "Completed", "Failed"},
	},
}

// mustNotFail are the kinds whose phase Failed is a mistake of ours unless the
// test gave them something bad. An operation that fails is often the right answer.
var mustNotFail = []string{
	v1alpha2.VirtualDiskKind, v1alpha2.VirtualImageKind, v1alpha2.ClusterVirtualImageKind, v1alpha2.VirtualMachineBlockDeviceAttachmentKind,
}

// wrongStep says what is wrong with showing one state after the other; it is empty
// when nothing is.
func wrongStep(before, after shown) string {
	switch {
	case before.phase != "" && after.phase == "":
		return fmt.Sprintf("the phase %s vanished", before.phase)
	case before.phase == "Terminating" && after.phase != "Terminating":
		return "it came back from Terminating to " + after.phase
	case after.generation != before.generation || after.deleting:
		// What the user asks for anew may begin from the start.
		return ""
	case slices.Contains(forbiddenSteps[after.kind][before.phase], after.phase):
		return fmt.Sprintf("the phase went back from %s to %s", before.phase, after.phase)
	case after.phase == "ImageLost":
		// It is made again from the start.
		return ""
	case before.phase == after.phase && percent(after.progress) < percent(before.progress):
		return fmt.Sprintf("the progress went back from %s to %s", before.progress, after.progress)
	}
	return ""
}

// percent is the number in a progress; one that is not shown counts as none made.
func percent(progress string) int {
	number, _ := strconv.Atoi(strings.TrimSuffix(progress, "%"))
	return number
}

// losesGuest tells that this step is right only when the guest of before is gone.
func losesGuest(before, after shown) bool {
	alive := []string{"Running", "Migrating", "Pause"}
	return after.kind == v1alpha2.VirtualMachineKind && slices.Contains(alive, before.phase) &&
		slices.Contains([]string{"Pending", "Starting", "Stopped"}, after.phase)
}

// diskUser is a pod that has a disk.
type diskUser struct {
	pod string
	// guest is the uid of the guest in the pod; empty when it is no guest's pod.
	guest types.UID
	// target tells that the guest is being moved to this pod.
	target bool
}

// usersOfDisks says by which claims of disks a pod can write at this moment. A pod
// without a node has nothing yet, one that has ended has nothing any more.
func usersOfDisks(pod *corev1.Pod) []string {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.Spec.NodeName == "" || ended {
		return nil
	}
	var claims []string
	for _, volume := range pod.Spec.Volumes {
		source := volume.PersistentVolumeClaim
		if source != nil && !source.ReadOnly && !onlyRead(pod, volume.Name) && strings.HasPrefix(source.ClaimName, "d8v-vd-") {
			claims = append(claims, source.ClaimName)
		}
	}
	return claims
}

// onlyRead tells that all containers of the pod mount a volume read-only, as those
// do that make an image of a disk. Pods cannot ask for a device that is read-only;
// where the importer has its source, it opens it for reading.
func onlyRead(pod *corev1.Pod, volume string) bool {
	mounted := false
	for _, container := range pod.Spec.Containers {
		for _, device := range container.VolumeDevices {
			if device.Name != volume {
				continue
			}
			if container.Name != "importer" || device.DevicePath != "/dev/source" {
				return false
			}
			mounted = true
		}
		for _, mount := range container.VolumeMounts {
			if mount.Name != volume {
				continue
			}
			if !mount.ReadOnly {
				return false
			}
			mounted = true
		}
	}
	return mounted
}

// diskUserOf knows a pod that holds a plugged-in disk by the launcher that owns it.
func diskUserOf(pod *corev1.Pod, launchers map[string]diskUser) diskUser {
	user := diskUser{pod: pod.Name}
	switch pod.Labels[virtv1.AppLabel] {
	case "virt-launcher":
		user.guest = types.UID(pod.Labels[virtv1.CreatedByLabel])
		_, user.target = pod.Labels[virtv1.MigrationJobLabel]
	case "hotplug-disk":
		if owner := metav1.GetControllerOf(pod); owner != nil {
			return launchers[owner.Name]
		}
	}
	return user
}

// wrongUsers says what is wrong with several pods having one disk; it is empty
// when nothing is. Two pods of one guest are right only while it moves.
func wrongUsers(users []diskUser) string {
	byPod := map[string]diskUser{}
	for _, user := range users {
		byPod[user.pod] = user
	}
	if len(byPod) < 2 {
		return ""
	}
	var names []string
	guests, ends := map[types.UID]bool{}, 0
	for name, user := range byPod {
		names = append(names, name)
		guests[user.guest] = true
		if !user.target {
			ends++
		}
	}
	if len(byPod) == 2 && len(guests) == 1 && !guests[""] && ends < 2 {
		return ""
	}
	slices.Sort(names)
	return "several pods have the disk: " + strings.Join(names, ", ")
}

// TestRulesOfTheInvariants tries the rules themselves: a rule that never speaks
// would look like a run without faults.
func TestRulesOfTheInvariants(t *testing.T) {
	disk := func(phase, progress string) shown {
		return shown{kind: "VirtualDisk", phase: phase, progress: progress, generation: 1}
	}
	changed := disk("Provisioning", "0%")
	changed.generation = 2
	deleting := disk("Terminating", "100%")
	deleting.deleting = true
	steps := []struct {
		name          string
		before, after shown
		want          string
	}{
		{"forward", disk("Provisioning", "10%"), disk("Ready", "100%"), ""},
		{"back", disk("Ready", "100%"), disk("Pending", "100%"), "the phase went back from Ready to Pending"},
		{"made again", disk("ImageLost", "100%"), disk("ImageLost", "0%"), ""},
		{"less progress", disk("Provisioning", "50%"), disk("Provisioning", "49%"), "the progress went back from 50% to 49%"},
		{"lost phase", disk("Ready", ""), disk("", ""), "the phase Ready vanished"},
		{"anew", disk("Ready", "100%"), changed, ""},
		{"deletion", disk("Ready", "100%"), deleting, ""},
		{"undead", disk("Terminating", ""), disk("Ready", ""), "it came back from Terminating to Ready"},
		{
			"operation that was over", shown{kind: "VirtualMachineOperation", phase: "Failed"}, shown{kind: "VirtualMachineOperation", phase: "InProgress"},
			"the phase went back from Failed to InProgress",
		},
	}
	for _, tc := range steps {
		if got := wrongStep(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	machine := func(phase string) shown { return shown{kind: "VirtualMachine", phase: phase} }
	if !losesGuest(machine("Running"), machine("Starting")) || losesGuest(machine("Stopping"), machine("Starting")) {
		t.Error("a lost guest is not told from a restart")
	}
	users := []struct {
		name  string
		users []diskUser
		want  string
	}{
		{"one", []diskUser{{pod: "a", guest: "1"}}, ""},
		{"one and the pod that holds its disk", []diskUser{{pod: "a", guest: "1"}, {pod: "a", guest: "1"}}, ""},
		{"the two ends of a move", []diskUser{{pod: "a", guest: "1"}, {pod: "b", guest: "1", target: true}}, ""},
		{"moved once and moving again", []diskUser{{pod: "a", guest: "1", target: true}, {pod: "b", guest: "1", target: true}}, ""},
		{"two of one guest", []diskUser{{pod: "a", guest: "1"}, {pod: "b", guest: "1"}}, "several pods have the disk: a, b"},
		{"two guests", []diskUser{{pod: "a", guest: "1"}, {pod: "b", guest: "2", target: true}}, "several pods have the disk: a, b"},
		{"a guest and a stranger", []diskUser{{pod: "a", guest: "1"}, {pod: "b"}}, "several pods have the disk: a, b"},
	}
	for _, tc := range users {
		if got := wrongUsers(tc.users); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
