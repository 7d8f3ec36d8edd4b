// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// maxNameLength is what the API server allows for names.
const maxNameLength = 253

// migrationName names the engine's order for an operation.
func migrationName(operation string) string {
	name := "vmop-" + operation
	if len(name) <= maxNameLength {
		return name
	}
	hash := fnv.New64a()
	hash.Write([]byte(operation))
	suffix := "-" + hex.EncodeToString(hash.Sum(nil))
	return name[:maxNameLength-len(suffix)] + suffix
}

func emptyMigration() *virtv1.VirtualMachineInstanceMigration {
	return &virtv1.VirtualMachineInstanceMigration{}
}

func newMigration(o Observed) *virtv1.VirtualMachineInstanceMigration {
	owner := metav1.NewControllerRef(o.Operation, v1alpha2.SchemeGroupVersion.WithKind(v1alpha2.VirtualMachineOperationKind))
	out := &virtv1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Operation.Namespace,
			Name:            migrationName(o.Operation.Name),
			Labels:          shared.ChildLabels(),
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: virtv1.VirtualMachineInstanceMigrationSpec{VMIName: o.Operation.Spec.VirtualMachineName},
	}
	if refined := o.Operation.Spec.Migrate; refined != nil {
		out.Spec.AddedNodeSelector = refined.NodeSelector
	}
	return out
}

// beginMigration orders the engine to move the guest, once nothing speaks against it
// any more. The order is an object with a fixed name, so that it cannot be given
// twice.
func beginMigration(o Observed, decided decision) decision {
	if o.Migration != nil {
		return follow(o, decided)
	}
	if o.Moving != nil {
		return decided.show(o, pending(v1alpha2.ReasonOtherMigrationInProgress,
			fmt.Sprintf("The machine is already being moved by %s; this operation comes after it.", o.Moving.Name)))
	}
	migratable := migratable(o.Guest)
	switch {
	case migratable == nil:
		return decided.show(o, pending(v1alpha2.ReasonWaitingForVirtualMachineToBeReadyToMigrate, "Waiting until the engine knows whether the guest can be moved."))
	case migratable.Status != corev1.ConditionTrue:
		return decided.end(o, failed(cannotMove(o, migratable), "the guest cannot be moved: "+migratable.Message))
	case o.Refusal != "":
		last := failed(v1alpha2.ReasonSignalSentError, "the engine refuses to move the guest: "+o.Refusal)
		last.signal = verdict{metav1.ConditionFalse, v1alpha2.ReasonSignalSentError, last.message}
		return decided.end(o, last)
	}
	if forced := slowDownToSet(o); forced != nil {
		before := pending(v1alpha2.ReasonMigrationPending, "The migration is being prepared.")
		decided = decided.show(o, before)
		decided.order = &order{requests: o.requests(), slowDown: forced, sent: before, refused: refusedOrder}
		return decided
	}
	decided.Create = []client.Object{newMigration(o)}
	return decided.show(o, state{
		phase: v1alpha2.OperationInProgress, reason: v1alpha2.ReasonMigrationPending, progress: "0%", signal: signalled(),
		message: "The engine was asked to move the guest.",
	})
}

// migratable is what the engine says about moving the guest; nil when it does not say
// yet.
func migratable(guest *virtv1.VirtualMachineInstance) *virtv1.VirtualMachineInstanceCondition {
	if guest == nil {
		return nil
	}
	for i := range guest.Status.Conditions {
		if guest.Status.Conditions[i].Type == virtv1.VirtualMachineInstanceIsMigratable {
			return &guest.Status.Conditions[i]
		}
	}
	return nil
}

// cannotMove tells a disk that was plugged in, which can be unplugged, from what
// needs a change of the machine.
func cannotMove(o Observed, condition *virtv1.VirtualMachineInstanceCondition) v1alpha2.ConditionReason {
	if condition.Reason != virtv1.VirtualMachineInstanceReasonDisksNotMigratable {
		return v1alpha2.ReasonFailed
	}
	for _, status := range o.Guest.Status.VolumeStatus {
		claim := status.PersistentVolumeClaimInfo
		if status.HotplugVolume != nil && claim != nil && !slices.Contains(claim.AccessModes, corev1.ReadWriteMany) {
			return v1alpha2.ReasonHotplugDisksNotShared
		}
	}
	return v1alpha2.ReasonFailed
}

// follow shows how far the migration is.
func follow(o Observed, decided decision) decision {
	if o.Migration == nil {
		if o.Refusal != "" {
			return decided.end(o, failed(v1alpha2.ReasonSignalSentError, "the engine refuses to move the guest: "+o.Refusal))
		}
		return decided.end(o, failed(v1alpha2.ReasonAborted, "the migration was deleted behind the operation's back"))
	}
	switch o.Migration.Status.Phase {
	case virtv1.MigrationSucceeded:
		last := completed(fmt.Sprintf("The guest runs on node %s.", targetNode(o)))
		last.signal = signalled()
		return decided.end(o, last)
	case virtv1.MigrationFailed:
		return decided.end(o, failedMigration(o))
	}
	step := judgeMigration(o)
	step.phase, step.signal = v1alpha2.OperationInProgress, signalled()
	return decided.show(o, step)
}

func failedMigration(o Observed) state {
	if o.Migration.DeletionTimestamp != nil || wasAborted(o) {
		return failed(v1alpha2.ReasonAborted, "the migration was stopped: "+failureReason(o))
	}
	return failed(v1alpha2.ReasonFailed, "the migration failed and the guest stays where it is: "+failureReason(o))
}

func wasAborted(o Observed) bool {
	of := o.progress()
	return of != nil && (of.AbortRequested || of.AbortStatus == virtv1.MigrationAbortSucceeded)
}

func failureReason(o Observed) string {
	if of := o.progress(); of != nil && of.FailureReason != "" {
		return of.FailureReason
	}
	for _, condition := range o.Migration.Status.Conditions {
		if condition.Status == corev1.ConditionTrue && condition.Message != "" {
			return condition.Message
		}
	}
	return "the engine gives no reason"
}

func targetNode(o Observed) string {
	if of := o.progress(); of != nil && of.TargetNode != "" {
		return of.TargetNode
	}
	if o.Guest != nil {
		return o.Guest.Status.NodeName
	}
	return ""
}

// progress is what the engine tells about this very migration: in the guest while it
// runs, in its own order afterwards.
func (o Observed) progress() *virtv1.VirtualMachineInstanceMigrationState {
	if o.Migration == nil {
		return nil
	}
	if o.Guest != nil {
		if of := o.Guest.Status.MigrationState; of != nil && of.MigrationUID == o.Migration.UID {
			return of
		}
	}
	if of := o.Migration.Status.MigrationState; of != nil && of.MigrationUID == o.Migration.UID {
		return of
	}
	return nil
}

// judgeMigration tells the steps before the end apart.
func judgeMigration(o Observed) state {
	switch o.Migration.Status.Phase {
	case virtv1.MigrationPhaseUnset, virtv1.MigrationPending:
		if condition := trueCondition(o.Migration, virtv1.VirtualMachineInstanceMigrationRejectedByResourceQuota); condition != nil {
			return state{reason: v1alpha2.ReasonQuotaExceeded, progress: "0%", message: sentence(
				"The quota of the namespace leaves no room for the second pod that a migration needs: " + condition.Message)}
		}
		return state{reason: v1alpha2.ReasonMigrationPending, progress: "0%",
			message: "The migration waits for its turn: the engine limits how many run at once."}
	case virtv1.MigrationScheduling:
		return scheduling(o)
	case virtv1.MigrationScheduled, virtv1.MigrationPreparingTarget:
		return state{reason: v1alpha2.ReasonTargetPreparing, progress: "3%", message: "The guest's place is being prepared on node " + targetOf(o) + "."}
	case virtv1.MigrationTargetReady, virtv1.MigrationWaitingForSync, virtv1.MigrationSynchronizing:
		return state{reason: v1alpha2.ReasonWaitingForSyncSlot, progress: "5%", message: "The guest's place is ready; copying is about to begin."}
	}
	return copying(o)
}

func trueCondition(migration *virtv1.VirtualMachineInstanceMigration, conditionType virtv1.VirtualMachineInstanceMigrationConditionType) *virtv1.VirtualMachineInstanceMigrationCondition {
	for i, condition := range migration.Status.Conditions {
		if condition.Type == conditionType && condition.Status == corev1.ConditionTrue {
			return &migration.Status.Conditions[i]
		}
	}
	return nil
}

// targetPod is the pod that the guest moves to.
func (o Observed) targetPod() *corev1.Pod {
	for i := range o.Pods {
		if o.Pods[i].Labels[virtv1.MigrationJobLabel] == string(o.Migration.UID) {
			return &o.Pods[i]
		}
	}
	return nil
}

func targetOf(o Observed) string {
	if pod := o.targetPod(); pod != nil && pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	return targetNode(o)
}

// scheduling looks at the target pod for what holds it up.
func scheduling(o Observed) state {
	pod := o.targetPod()
	if pod == nil {
		return state{reason: v1alpha2.ReasonTargetScheduling, progress: "2%", message: "A node to move to is being looked for."}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return state{reason: v1alpha2.ReasonTargetUnschedulable, progress: "2%", message: sentence("No node can take the guest: " + condition.Message)}
		}
	}
	if pod.Spec.NodeName == "" {
		return state{reason: v1alpha2.ReasonTargetScheduling, progress: "2%", message: "A node to move to is being looked for."}
	}
	return state{reason: v1alpha2.ReasonTargetPreparing, progress: "3%", message: "The guest's place is being prepared on node " + pod.Spec.NodeName + "."}
}

// copying tells about the guest's memory. The engine does not publish how much of it
// has been copied, only what became of it.
func copying(o Observed) state {
	of := o.progress()
	if of == nil || of.StartTimestamp == nil {
		return state{reason: v1alpha2.ReasonSyncing, progress: "10%", message: "Memory is about to be copied."}
	}
	switch {
	case of.TargetNodeDomainReadyTimestamp != nil:
		return state{reason: v1alpha2.ReasonTargetResumed, progress: "92%", message: "The guest runs on node " + of.TargetNode + "; the old node is being cleaned up."}
	case of.Mode == virtv1.MigrationPaused:
		return state{reason: v1alpha2.ReasonSourceSuspended, progress: "91%", message: "The guest stands still for the last part of the copy."}
	}
	limit := timeLimit(o, of)
	since := o.Now.Sub(of.StartTimestamp.Time)
	copied := state{reason: v1alpha2.ReasonSyncing, progress: "10%",
		message: fmt.Sprintf("Memory is being copied from node %s to node %s.", of.SourceNode, of.TargetNode)}
	switch {
	case limit == 0:
	case since < limit/2:
		copied.recheck = limit/2 - since
	default:
		copied.reason, copied.progress = v1alpha2.ReasonNotConverging, "50%"
		copied.message = fmt.Sprintf("The guest changes its memory faster than it can be copied: half of the %s that the engine allows for are over. %s", limit, whatHelps(o))
	}
	return copied
}

// timeLimit is how long the engine lets the copy take; zero when it does not say.
func timeLimit(o Observed, of *virtv1.VirtualMachineInstanceMigrationState) time.Duration {
	settings := of.MigrationConfiguration
	if settings == nil || settings.CompletionTimeoutPerGiB == nil || o.Guest == nil || o.Guest.Spec.Domain.Memory == nil || o.Guest.Spec.Domain.Memory.Guest == nil {
		return 0
	}
	const gib = 1 << 30
	memory := (o.Guest.Spec.Domain.Memory.Guest.Value() + gib - 1) / gib
	return time.Duration(*settings.CompletionTimeoutPerGiB*memory) * time.Second
}
