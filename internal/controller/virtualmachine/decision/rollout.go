// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// rollout chooses what the engine is shown of the machine.
//
// KubeVirt starts a guest from what it is shown at that moment, without asking, and
// changes a running guest only as long as nothing else differs from what that guest
// was started with. So the engine is shown the whole machine: whatever starts the
// guest anew, be it a crash, a reboot or an operation, starts it with everything.
// Only while there is something that KubeVirt can change in the guest at once, and
// something else that holds this back, is it shown the machine as it was started
// with that change: for the fraction of a second until it has taken it over. A
// machine that is about to be restarted anyway is spared the detour.
func rollout(o Observed, full *virtv1.VirtualMachine) (*virtv1.VirtualMachine, error) {
	change := ChangeAtHand(o)
	if change.IsEmpty() || o.Started == nil || !kubevirt.NeedsStart(full, o.Guest) ||
		(restartsItself(o) && len(changesOf(o)) > 0) {
		return full, nil
	}
	return kubevirt.Transitional(full, o.Started, o.Guest, change)
}

// ChangeAtHand is what KubeVirt could change in the guest at this moment and has
// not taken over yet.
func ChangeAtHand(o Observed) kubevirt.LiveChange {
	var change kubevirt.LiveChange
	if !takesChanges(o) {
		return change
	}
	spec := &o.Machine.Spec
	if guestCores(o.Guest) != spec.CPU.Cores && whyCoresWait(o) == "" {
		change.Cores = spec.CPU.Cores
	}
	if memory := guestMemory(o.Guest); memory != nil && memory.Cmp(spec.Memory.Size) != 0 && whyMemoryWaits(o) == "" {
		change.Memory = ptr.To(spec.Memory.Size.DeepCopy())
	}
	started := kubevirt.DecodeSpec(o.Guest.Annotations)
	if o.Class == nil || started == nil || started.VirtualMachineClassName != spec.VirtualMachineClassName {
		// The nodes of another class may lack what the guest was started with.
		return change
	}
	if placement := kubevirt.PlacementFor(spec, o.Class); !placement.IsOf(o.Guest) {
		change.Placement = &placement
	}
	return change
}

// takesChanges tells that KubeVirt would act on a change right away: it takes one
// at a time, and none while the guest moves.
func takesChanges(o Observed) bool {
	return runsInPlace(o) && len(isGrowing(o.Guest)) == 0 &&
		guestCondition(o.Guest, virtv1.VirtualMachineInstanceVCPUChange) == nil &&
		!isGuestCondition(o.Guest, virtv1.VirtualMachineInstanceMemoryChange)
}

// runsInPlace tells that the guest runs and is neither on its way to another node
// nor to its end.
func runsInPlace(o Observed) bool {
	if !o.GuestActive() || o.Guest.DeletionTimestamp != nil || o.Guest.Status.Phase != virtv1.Running {
		return false
	}
	migration := o.Guest.Status.MigrationState
	return migration == nil || migration.StartTimestamp == nil || migration.EndTimestamp != nil || migration.Completed
}

// restartsItself tells that nobody has to be asked before a restart.
func restartsItself(o Observed) bool {
	disruptions := o.Machine.Spec.Disruptions
	return disruptions != nil && disruptions.RestartApprovalMode == v1alpha2.RestartApprovalAutomatic &&
		o.Machine.Spec.RunPolicy != v1alpha2.RunPolicyAlwaysOff
}

// restartDue tells that the guest is to be restarted for its pending changes. The
// engine must be known to have them: a restart that comes before them would be for
// nothing and be followed by another. Nor is a guest restarted that was started
// from just what the engine has: that could go on for ever.
func restartDue(o Observed, full *virtv1.VirtualMachine) bool {
	return restartsItself(o) && runsInPlace(o) && len(changesOf(o)) > 0 &&
		o.Engine != nil && len(o.Engine.Status.StateChangeRequests) == 0 && showsAll(o.Engine, full) &&
		o.Guest.Status.VirtualMachineRevisionName != revisionName(o.Engine)
}

// changesOf are the changes that wait for a restart of the running guest.
func changesOf(o Observed) []pendingChange {
	started := kubevirt.DecodeSpec(o.Guest.Annotations)
	if started == nil {
		return nil
	}
	return pendingChanges(started, o)
}

// showsAll tells that the engine's object holds what the machine would be started
// with.
func showsAll(engine, full *virtv1.VirtualMachine) bool {
	if engine.Spec.Template == nil {
		return false
	}
	have, want := engine.Spec.Template.ObjectMeta.Annotations, full.Spec.Template.ObjectMeta.Annotations
	for _, key := range []string{v1alpha2.AnnotationLastAppliedSpec, kubevirt.AnnotationStartDigest, v1alpha2.AnnotationCiliumIPAddress} {
		if have[key] != want[key] {
			return false
		}
	}
	return ptr.Deref(engine.Spec.RunStrategy, "") == ptr.Deref(full.Spec.RunStrategy, "")
}

// revisionName is how KubeVirt names what it starts a guest from at this moment.
func revisionName(engine *virtv1.VirtualMachine) string {
	return fmt.Sprintf("revision-start-vm-%s-%d", engine.UID, engine.Generation)
}

// newClaim builds the address claim that lives as long as the machine. It is born
// with its finalizer, which saves its controller a write.
func newClaim(o Observed) *v1alpha2.VirtualMachineIPAddress {
	owner := metav1.NewControllerRef(o.Machine, v1alpha2.SchemeGroupVersion.WithKind(v1alpha2.VirtualMachineKind))
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Machine.Namespace,
			Name:            o.ClaimName(),
			Labels:          map[string]string{v1alpha2.LabelVirtualMachineUID: string(o.Machine.UID)},
			Finalizers:      []string{v1alpha2.FinalizerVMIPCleanup},
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: v1alpha2.VirtualMachineIPAddressSpec{Type: v1alpha2.IPAddressAuto},
	}
}

// newEngine is what the engine is shown of the machine, see rollout.
func newEngine(o Observed, deps dependencies) (shared.Child, error) {
	full, err := render(o, deps)
	if err != nil {
		return shared.Child{}, err
	}
	shown, err := rollout(o, full)
	if err != nil {
		return shared.Child{}, err
	}
	child := shared.Child{Want: shown}
	if o.Engine != nil {
		child.Have = o.Engine
	}
	return child, nil
}

// render makes the whole machine from what its dependencies came to.
func render(o Observed, deps dependencies) (*virtv1.VirtualMachine, error) {
	rendered, err := kubevirt.Render(kubevirt.Input{
		Machine: o.Machine,
		Class:   o.Class,
		Address: deps.address,
		Devices: deps.attachable, Attached: o.attachedDevices(),
		Binding: o.binding(),

		RunStrategy: o.runStrategy(),
	})
	if err != nil {
		return nil, err
	}
	return rendered, kubevirt.MarkStart(rendered)
}
