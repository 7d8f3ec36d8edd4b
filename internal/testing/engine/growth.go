// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// room is how many times its first size a guest can grow to, which is KubeVirt's
// default.
const room = 4

// LetGrow starts guests with room for more cores and more memory from now on, and gives
// them what is added to their machines: KubeVirt does that where its rollout strategy
// is LiveUpdate.
func (e *Engine) LetGrow() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.growing = true
}

func (e *Engine) letsGrow() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.growing
}

// start makes the guest of a machine, and keeps what it is made from in a revision.
func (e *Engine) start(ctx context.Context, machine *virtv1.VirtualMachine) error {
	guest := newGuest(machine)
	if !e.letsGrow() {
		return e.client.Create(ctx, guest)
	}
	raw, err := json.Marshal(map[string]any{"spec": machine.Spec})
	if err != nil {
		return err
	}
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: machine.Namespace, Name: fmt.Sprintf("revision-start-vm-%s-%d", machine.UID, machine.Generation),
		},
		Data: runtime.RawExtension{Raw: raw},
	}
	if err := e.client.Create(ctx, revision); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	makeRoom(&guest.Spec.Domain)
	if err := e.client.Create(ctx, guest); err != nil {
		return err
	}
	guest.Status.VirtualMachineRevisionName = revision.Name
	return e.client.Status().Update(ctx, guest)
}

func makeRoom(domain *virtv1.DomainSpec) {
	if domain.CPU != nil {
		domain.CPU.MaxSockets = room * domain.CPU.Sockets
	}
	if memory := domain.Memory; memory != nil && memory.Guest != nil {
		memory.MaxGuest = resource.NewQuantity(room*memory.Guest.Value(), resource.BinarySI)
	}
}

// showSize tells what the guest has: all that it was given, as soon as it is where
// there is room for it.
func showSize(guest *virtv1.VirtualMachineInstance) {
	if cpu := guest.Spec.Domain.CPU; cpu != nil && cpu.MaxSockets > 0 {
		guest.Status.CurrentCPUTopology = &virtv1.CPUTopology{Sockets: cpu.Sockets, Cores: cpu.Cores, Threads: cpu.Threads}
	}
	memory := guest.Spec.Domain.Memory
	if memory == nil || memory.Guest == nil || memory.MaxGuest == nil {
		return
	}
	if guest.Status.Memory == nil {
		guest.Status.Memory = &virtv1.MemoryStatus{GuestAtBoot: ptr.To(memory.Guest.DeepCopy())}
	}
	guest.Status.Memory.GuestRequested, guest.Status.Memory.GuestCurrent = ptr.To(memory.Guest.DeepCopy()), ptr.To(memory.Guest.DeepCopy())
}

// grow gives the guest what its machine has come to have, and moves it to where there
// is room for that. It tells whether there was something to do. As KubeVirt, it does
// nothing while the machine has a change that the guest was not started with.
func (e *Engine) grow(ctx context.Context, machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) (bool, error) {
	topology, size := guest.Status.CurrentCPUTopology, guest.Status.Memory
	if guest.Status.Phase != virtv1.Running || topology == nil || size == nil || machine.Spec.Template == nil || isMoving(guest) {
		return false, nil
	}
	has, want := &guest.Spec.Domain, &machine.Spec.Template.Spec.Domain
	switch {
	case has.CPU.Sockets != topology.Sockets, has.Memory.Guest.Cmp(*size.GuestRequested) != 0:
		return true, e.moveToRoom(ctx, guest)
	case want.CPU.Sockets == has.CPU.Sockets && want.Memory.Guest.Cmp(*has.Memory.Guest) == 0:
		return false, nil
	}
	if mayTakeOver, err := e.isAsStarted(ctx, machine, guest); err != nil || !mayTakeOver {
		return false, err
	}
	has.CPU.Sockets, has.Memory.Guest = want.CPU.Sockets, ptr.To(want.Memory.Guest.DeepCopy())
	return true, e.client.Update(ctx, guest)
}

// isAsStarted compares what the guest was started from with its machine, as far as the
// tests change it: what is reserved follows the size and must not change with it.
func (e *Engine) isAsStarted(ctx context.Context, machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) (bool, error) {
	revision := &appsv1.ControllerRevision{}
	key := client.ObjectKey{Namespace: guest.Namespace, Name: guest.Status.VirtualMachineRevisionName}
	if err := e.client.Get(ctx, key, revision); err != nil {
		return false, err
	}
	var kept struct {
		Spec virtv1.VirtualMachineSpec `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &kept); err != nil {
		return false, err
	}
	size := func(spec *virtv1.VirtualMachineSpec) (string, error) {
		raw, err := json.Marshal(map[string]any{
			"resources": spec.Template.Spec.Domain.Resources, "grace": spec.Template.Spec.TerminationGracePeriodSeconds,
		})
		return string(raw), err
	}
	before, err := size(&kept.Spec)
	if err != nil {
		return false, err
	}
	now, err := size(&machine.Spec)
	return before == now, err
}

// moveToRoom orders the migration by which the guest grows.
func (e *Engine) moveToRoom(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
	migrations := &virtv1.VirtualMachineInstanceMigrationList{}
	if err := e.client.List(ctx, migrations, client.InNamespace(guest.Namespace)); err != nil {
		return err
	}
	for i := range migrations.Items {
		if migration := &migrations.Items[i]; migration.Spec.VMIName == guest.Name && !migration.IsFinal() {
			return nil
		}
	}
	return e.client.Create(ctx, &virtv1.VirtualMachineInstanceMigration{
		ObjectMeta: metav1.ObjectMeta{Namespace: guest.Namespace, GenerateName: "kubevirt-workload-update-"},
		Spec:       virtv1.VirtualMachineInstanceMigrationSpec{VMIName: guest.Name},
	})
}
