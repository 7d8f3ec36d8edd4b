// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestMigrationOrder(t *testing.T) {
	selector := map[string]string{"zone": "a"}
	decided := decide(observation("Migrate", func(o *Observed) { o.Operation.Spec.Migrate = &v1alpha2.OperationMigrateSpec{NodeSelector: selector} }))
	if len(decided.Create) != 1 {
		t.Fatalf("creates %v", decided.Create)
	}
	order, ok := decided.Create[0].(*virtv1.VirtualMachineInstanceMigration)
	if !ok || order.Name != "vmop-op" || order.Namespace != "team" || order.Spec.VMIName != "web" || !maps.Equal(order.Spec.AddedNodeSelector, selector) {
		t.Errorf("order %+v", decided.Create[0])
	}
	if owner := metav1.GetControllerOf(order); owner == nil || owner.UID != "uid-of-op" || owner.Kind != "VirtualMachineOperation" {
		t.Errorf("owner %+v", owner)
	}
	if got := condition(decided.Status, "SignalSent"); got != "True/SignalSentSuccess: The order was given." {
		t.Errorf("SignalSent: %s", got)
	}
}

func TestMigrationName(t *testing.T) {
	if got := migrationName("drain"); got != "vmop-drain" {
		t.Error(got)
	}
	long := strings.Repeat("a", 252)
	first, second := migrationName(long+"b"), migrationName(long+"c")
	if len(first) != 253 || len(second) != 253 || first == second {
		t.Errorf("%d and %d characters, equal: %t", len(first), len(second), first == second)
	}
}

// What can be in the way of a migration before it begins.
func TestMigrationBegins(t *testing.T) {
	notMovable := func(reason string) change {
		return func(o *Observed) {
			o.Guest.Status.Conditions = []virtv1.VirtualMachineInstanceCondition{{
				Type: virtv1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionFalse, Reason: reason, Message: "cannot migrate VMI: PVC root is not shared",
			}}
		}
	}
	plugged := func(modes ...corev1.PersistentVolumeAccessMode) change {
		return func(o *Observed) {
			o.Guest.Status.VolumeStatus = []virtv1.VolumeStatus{{
				Name: "data", HotplugVolume: &virtv1.HotplugVolumeStatus{}, PersistentVolumeClaimInfo: &virtv1.PersistentVolumeClaimInfo{AccessModes: modes},
			}}
		}
	}
	elsewhere := func(o *Observed) {
		o.Moving = &virtv1.VirtualMachineInstanceMigration{ObjectMeta: metav1.ObjectMeta{Name: "kubevirt-workload-update-x"}}
	}
	const why = ": the guest cannot be moved: cannot migrate VMI: PVC root is not shared."
	tests := map[string]struct {
		changes   []change
		phase     v1alpha2.OperationPhase
		progress  string
		completed string
	}{
		"it moves already": {[]change{elsewhere}, "Pending", "0%",
			"False/OtherMigrationInProgress: The machine is already being moved by kubevirt-workload-update-x; this operation comes after it."},
		"nobody knows yet": {[]change{func(o *Observed) { o.Guest.Status.Conditions = nil }}, "Pending", "0%",
			"False/WaitingForVirtualMachineToBeReadyToMigrate: Waiting until the engine knows whether the guest can be moved."},
		"its disks are not shared":   {[]change{notMovable("DisksNotLiveMigratable")}, "Failed", "", "False/Failed" + why},
		"a device of the node":       {[]change{notMovable("HostDeviceNotLiveMigratable")}, "Failed", "", "False/Failed" + why},
		"a disk that was plugged in": {[]change{notMovable("DisksNotLiveMigratable"), plugged(corev1.ReadWriteOnce)}, "Failed", "", "False/HotplugDisksNotShared" + why},
		"plugged in, but shared":     {[]change{notMovable("DisksNotLiveMigratable"), plugged(corev1.ReadWriteMany)}, "Failed", "", "False/Failed" + why},
		"the engine refuses": {[]change{func(o *Observed) { o.Refusal = "denied the request: too bad" }}, "Failed", "",
			"False/SignalSentError: the engine refuses to move the guest: denied the request: too bad."},
		"the order is there": {[]change{migration(virtv1.MigrationPending)}, "InProgress", "0%",
			"False/MigrationPending: The migration waits for its turn: the engine limits how many run at once."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation("Migrate", tc.changes...))
			expectStatus(t, decided, tc.phase, tc.progress, tc.completed)
			if len(decided.Create) > 0 {
				t.Error("orders a migration")
			}
		})
	}
}

func targetPod(node string, conditions ...corev1.PodCondition) change {
	return func(o *Observed) {
		o.Pods = []corev1.Pod{
			{ObjectMeta: metav1.ObjectMeta{Name: "source"}, Spec: corev1.PodSpec{NodeName: "node-1"}},
			{
				ObjectMeta: metav1.ObjectMeta{Name: "target", Labels: map[string]string{"kubevirt.io/migrationJobUID": "uid-of-migration"}},
				Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Conditions: conditions},
			},
		}
	}
}

// The table of doc.go.
func TestMigrationProgress(t *testing.T) {
	unschedulable := corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/2 nodes are available"}
	quota := func(o *Observed) {
		o.Migration.Status.Conditions = []virtv1.VirtualMachineInstanceMigrationCondition{
			{Type: virtv1.VirtualMachineInstanceMigrationRejectedByResourceQuota, Status: corev1.ConditionTrue, Message: "exceeded quota: pods"},
		}
	}
	startedAgo := func(ago time.Duration) change {
		return moved(func(s *virtv1.VirtualMachineInstanceMigrationState) {
			s.StartTimestamp = ptr.To(metav1.NewTime(now.Add(-ago)))
		})
	}
	const copied = "False/Syncing: Memory is being copied from node node-1 to node node-2."
	tests := map[string]struct {
		changes   []change
		progress  string
		completed string
		recheck   time.Duration
	}{
		"ordered": {[]change{migration("")}, "0%", "False/MigrationPending: The migration waits for its turn: the engine limits how many run at once.", 0},
		"pending": {[]change{migration("Pending")}, "0%", "False/MigrationPending: The migration waits for its turn: the engine limits how many run at once.", 0},
		"quota": {[]change{migration("Pending"), quota}, "0%",
			"False/QuotaExceeded: The quota of the namespace leaves no room for the second pod that a migration needs: exceeded quota: pods.", 0},
		"scheduling": {[]change{migration("Scheduling")}, "2%", "False/TargetScheduling: A node to move to is being looked for.", 0},
		"pod made":   {[]change{migration("Scheduling"), targetPod("")}, "2%", "False/TargetScheduling: A node to move to is being looked for.", 0},
		"no node": {[]change{migration("Scheduling"), targetPod("", unschedulable)}, "2%",
			"False/TargetUnschedulable: No node can take the guest: 0/2 nodes are available.", 0},
		"node found": {[]change{migration("Scheduling"), targetPod("node-2")}, "3%", "False/TargetPreparing: The guest's place is being prepared on node node-2.", 0},
		"scheduled":  {[]change{migration("Scheduled"), targetPod("node-2")}, "3%", "False/TargetPreparing: The guest's place is being prepared on node node-2.", 0},
		"preparing":  {[]change{migration("PreparingTarget"), targetPod("node-2")}, "3%", "False/TargetPreparing: The guest's place is being prepared on node node-2.", 0},
		"ready":      {[]change{migration("TargetReady")}, "5%", "False/WaitingForSyncSlot: The guest's place is ready; copying is about to begin.", 0},
		"running":    {[]change{migration("Running")}, "10%", "False/Syncing: Memory is about to be copied.", 0},
		// 1.5 GiB count as two: 300 seconds.
		"copying":       {[]change{migration("Running"), startedAgo(time.Minute)}, "10%", copied, 90 * time.Second},
		"another's":     {[]change{migration("Running"), moved(func(s *virtv1.VirtualMachineInstanceMigrationState) { s.MigrationUID = "of before" })}, "10%", "False/Syncing: Memory is about to be copied.", 0},
		"without limit": {[]change{migration("Running"), moved(func(s *virtv1.VirtualMachineInstanceMigrationState) { s.MigrationConfiguration = nil })}, "10%", copied, 0},
		"too slow": {[]change{migration("Running"), startedAgo(150 * time.Second)}, "50%",
			"False/NotConverging: The guest changes its memory faster than it can be copied: half of the 5m0s that the engine allows for are over. Repeat the operation with force: true to let it slow the guest down.", 0},
		"paused": {[]change{migration("Running"), moved(func(s *virtv1.VirtualMachineInstanceMigrationState) { s.Mode = "Paused" })}, "91%",
			"False/SourceSuspended: The guest stands still for the last part of the copy.", 0},
		"over there": {[]change{migration("Running"), moved(func(s *virtv1.VirtualMachineInstanceMigrationState) {
			s.TargetNodeDomainReadyTimestamp = ptr.To(metav1.NewTime(now))
		})}, "92%", "False/TargetResumed: The guest runs on node node-2; the old node is being cleaned up.", 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation("Migrate", append([]change{sent("", time.Second)}, tc.changes...)...))
			expectStatus(t, decided, "InProgress", tc.progress, tc.completed)
			if decided.RequeueAfter != tc.recheck {
				t.Errorf("looks again after %s", decided.RequeueAfter)
			}
		})
	}
}

func TestMigrationEnds(t *testing.T) {
	failedState := func(apply func(*virtv1.VirtualMachineInstanceMigrationState)) change {
		return moved(func(s *virtv1.VirtualMachineInstanceMigrationState) {
			s.Failed, s.FailureReason = true, "operation failed: timed out"
			apply(s)
		})
	}
	tests := map[string]struct {
		changes   []change
		phase     v1alpha2.OperationPhase
		completed string
	}{
		"well":           {[]change{migration("Succeeded"), moved(moving)}, "Completed", "True/Completed: The guest runs on node node-2."},
		"well, told ago": {[]change{migration("Succeeded")}, "Completed", "True/Completed: The guest runs on node node-1."},
		"badly": {[]change{migration("Failed"), failedState(moving)}, "Failed",
			"False/Failed: the migration failed and the guest stays where it is: operation failed: timed out."},
		"badly, without a word": {[]change{migration("Failed")}, "Failed",
			"False/Failed: the migration failed and the guest stays where it is: the engine gives no reason."},
		"aborted": {[]change{migration("Failed"), failedState(func(s *virtv1.VirtualMachineInstanceMigrationState) { s.AbortRequested = true })}, "Failed",
			"False/Aborted: the migration was stopped: operation failed: timed out."},
		"order deleted": {nil, "Failed", "False/Aborted: the migration was deleted behind the operation's back."},
		"order refused": {[]change{func(o *Observed) { o.Refusal = "denied" }}, "Failed", "False/SignalSentError: the engine refuses to move the guest: denied."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation("Evict", append([]change{sent("", time.Second)}, tc.changes...)...))
			progress := map[v1alpha2.OperationPhase]string{"Completed": "100%"}[tc.phase]
			expectStatus(t, decided, tc.phase, progress, tc.completed)
		})
	}
	// What the order itself keeps is told when the guest has gone on to something else.
	later := observation("Evict", sent("", time.Second), migration("Failed"), func(o *Observed) {
		o.Migration.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{MigrationUID: "uid-of-migration", FailureReason: "the node was lost"}
	})
	expectStatus(t, decide(later), "Failed", "", "False/Failed: the migration failed and the guest stays where it is: the node was lost.")
}
