// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Refusal says why a machine cannot take an operation. The zero value says that it
// can.
type Refusal struct {
	Reason  v1alpha2.ConditionReason
	Message string
}

// IsZero tells that there is nothing against the operation.
func (r Refusal) IsZero() bool { return r == Refusal{} }

// rule is what an operation needs of its machine.
type rule struct {
	policies []v1alpha2.RunPolicy
	phases   []v1alpha2.MachinePhase
	// withForce are the phases in which force makes sense beside phases.
	withForce []v1alpha2.MachinePhase
}

var (
	switchedByUsers = []v1alpha2.RunPolicy{v1alpha2.RunPolicyManual, v1alpha2.RunPolicyAlwaysOnUnlessStoppedManually}
	everOn          = append([]v1alpha2.RunPolicy{v1alpha2.RunPolicyAlwaysOn}, switchedByUsers...)
	withGuest       = []v1alpha2.MachinePhase{
		v1alpha2.MachineStarting, v1alpha2.MachineRunning, v1alpha2.MachineDegraded, v1alpha2.MachineMigrating, v1alpha2.MachinePause,
	}
	movable = rule{
		policies: everOn,
		phases:   []v1alpha2.MachinePhase{v1alpha2.MachineRunning, v1alpha2.MachineDegraded, v1alpha2.MachineMigrating},
	}
)

var rules = map[v1alpha2.OperationType]rule{
	v1alpha2.OperationStart: {
		policies: switchedByUsers,
		phases:   []v1alpha2.MachinePhase{v1alpha2.MachineStopped, v1alpha2.MachineStopping},
	},
	v1alpha2.OperationStop: {
		policies:  switchedByUsers,
		phases:    append([]v1alpha2.MachinePhase{v1alpha2.MachinePending}, withGuest...),
		withForce: []v1alpha2.MachinePhase{v1alpha2.MachineStopping},
	},
	v1alpha2.OperationRestart: {
		policies:  everOn,
		phases:    withGuest,
		withForce: []v1alpha2.MachinePhase{v1alpha2.MachineStopping},
	},
	v1alpha2.OperationMigrate: movable,
	v1alpha2.OperationEvict:   movable,
}

// Judge says what speaks against an operation on a machine as it is now. Replaced is
// the operation whose place it takes, or nil. A machine that has
// not been looked at yet is given the benefit of the doubt.
func Judge(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine, replaced *v1alpha2.VirtualMachineOperation) Refusal {
	if refused := JudgePolicy(operation, machine); !refused.IsZero() {
		return refused
	}
	kind, needs := operation.Spec.Type, rules[operation.Spec.Type]
	phases := needs.phases
	if ptr.Deref(operation.Spec.Force, false) {
		phases = append(slices.Clone(phases), needs.withForce...)
	}
	phase := machine.Status.Phase
	if IsKnown(machine) && !slices.Contains(phases, phase) && !switchesPower(replaced) {
		return Refusal{Reason: v1alpha2.ReasonNotApplicableForPhase, Message: fmt.Sprintf(
			"%s needs a machine in phase %s; %s is %s", kind, join(phases), machine.Name, phase)}
	}
	if refused := judgeForce(operation, machine); !refused.IsZero() {
		return refused
	}
	return judgeDevices(operation, machine)
}

// judgeForce refuses what the machine's policy of live migrations rules out: force is a
// wish that must not be passed over in silence.
func judgeForce(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine) Refusal {
	force := operation.Spec.Force
	if force == nil || !IsMigration(operation.Spec.Type) {
		return Refusal{}
	}
	policy := machine.Spec.LiveMigrationPolicy
	var other v1alpha2.LiveMigrationPolicy
	switch {
	case policy == v1alpha2.LiveMigrationAlwaysSafe && *force:
		other = v1alpha2.LiveMigrationPreferSafe
	case policy == v1alpha2.LiveMigrationAlwaysForced && !*force:
		other = v1alpha2.LiveMigrationPreferForced
	default:
		return Refusal{}
	}
	return Refusal{Reason: v1alpha2.ReasonNotApplicableForLiveMigrationPolicy, Message: fmt.Sprintf(
		"force: %t contradicts liveMigrationPolicy %s of %s: leave force out, or set spec.liveMigrationPolicy of the machine to %s",
		*force, policy, machine.Name, other)}
}

// judgeDevices says why a machine that is off cannot be started with its devices, by
// what the machine itself has told: one of them is missing, not ready, or another
// machine has it. A device that is made when the machine starts is in nobody's way.
func judgeDevices(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine) Refusal {
	devices := meta.FindStatusCondition(machine.Status.Conditions, v1alpha2.ConditionBlockDevicesReady)
	if operation.Spec.Type != v1alpha2.OperationStart || devices == nil ||
		devices.Status != metav1.ConditionFalse || devices.Reason != v1alpha2.ReasonBlockDevicesNotReady {
		return Refusal{}
	}
	return Refusal{Reason: v1alpha2.ReasonBlockDevicesNotReady,
		Message: fmt.Sprintf("%s cannot be started with its block devices: %s", machine.Name, devices.Message)}
}

// IsKnown tells that the machine's controller has looked at it: until then its phase
// means nothing.
func IsKnown(machine *v1alpha2.VirtualMachine) bool {
	return machine.Status.Phase != "" && machine.Status.ObservedGeneration > 0
}

// JudgePolicy says whether the operation and the machine's run policy contradict each
// other, whatever the machine's phase is.
func JudgePolicy(operation *v1alpha2.VirtualMachineOperation, machine *v1alpha2.VirtualMachine) Refusal {
	kind := operation.Spec.Type
	needs, known := rules[kind]
	if !known {
		return Refusal{
			Reason:  v1alpha2.ReasonOperationTypeNotSupported,
			Message: fmt.Sprintf("operations of type %s cannot be carried out by this release", kind),
		}
	}
	policy := machine.Spec.RunPolicy
	if policy == "" {
		policy = v1alpha2.RunPolicyAlwaysOnUnlessStoppedManually
	}
	if !slices.Contains(needs.policies, policy) {
		return Refusal{Reason: v1alpha2.ReasonNotApplicableForRunPolicy, Message: policyMessage(kind, machine.Name, policy)}
	}
	return Refusal{}
}

func policyMessage(kind v1alpha2.OperationType, name string, policy v1alpha2.RunPolicy) string {
	remedy := "set spec.runPolicy of the machine to Manual or AlwaysOnUnlessStoppedManually"
	switch {
	case policy == v1alpha2.RunPolicyAlwaysOff:
		remedy = "set spec.runPolicy of the machine to another value"
	case kind == v1alpha2.OperationStop:
		remedy += ", or to AlwaysOff to switch it off"
	}
	return fmt.Sprintf("%s is not possible while runPolicy of %s is %s: %s", kind, name, policy, remedy)
}

func join(phases []v1alpha2.MachinePhase) string {
	words := make([]string, 0, len(phases))
	for _, phase := range phases {
		words = append(words, string(phase))
	}
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func switchesPower(operation *v1alpha2.VirtualMachineOperation) bool {
	if operation == nil {
		return false
	}
	switch operation.Spec.Type {
	case v1alpha2.OperationStart, v1alpha2.OperationStop, v1alpha2.OperationRestart:
		return true
	}
	return false
}

// IsMigration tells that an operation moves the guest: Evict is the old name of
// Migrate.
func IsMigration(kind v1alpha2.OperationType) bool {
	return kind == v1alpha2.OperationMigrate || kind == v1alpha2.OperationEvict
}

// IsFinished tells that nothing more happens to an operation.
func IsFinished(operation *v1alpha2.VirtualMachineOperation) bool {
	switch operation.Status.Phase {
	case v1alpha2.OperationCompleted, v1alpha2.OperationFailed, v1alpha2.OperationSuperseded:
		return true
	}
	return false
}

// FinishedAt is when a finished operation ended: a status of that moment has the
// newest of all times.
func FinishedAt(operation *v1alpha2.VirtualMachineOperation) time.Time {
	at := operation.CreationTimestamp.Time
	for _, condition := range operation.Status.Conditions {
		if condition.LastTransitionTime.After(at) {
			at = condition.LastTransitionTime.Time
		}
	}
	return at
}

// Supersedes tells that the newer operation takes the place of the older one.
func Supersedes(newer, older *v1alpha2.VirtualMachineOperation) bool {
	forced := ptr.Deref(newer.Spec.Force, false)
	stops, restarts := newer.Spec.Type == v1alpha2.OperationStop, newer.Spec.Type == v1alpha2.OperationRestart
	switch older.Spec.Type {
	case v1alpha2.OperationStart:
		return stops
	case v1alpha2.OperationStop, v1alpha2.OperationRestart:
		return forced && (stops || restarts)
	case v1alpha2.OperationMigrate, v1alpha2.OperationEvict:
		return stops || restarts
	}
	return false
}

// IsOlder orders the operations of a machine: by time, those of the same second by
// name.
func IsOlder(a, b *v1alpha2.VirtualMachineOperation) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}
