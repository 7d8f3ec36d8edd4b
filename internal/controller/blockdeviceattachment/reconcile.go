// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

type loop = shared.Reconciler[*v1alpha2.VirtualMachineBlockDeviceAttachment, Observed]

type reconciler struct {
	shared.Executor
	classes filling.Classes
	clock   clock.PassiveClock
	// main is the loop that everything goes through first.
	main *loop
}

// Reconcile runs the shared loop, and once more with the answer when the claim for a
// copy is refused, so that the status tells it. What refuses, a quota or a policy,
// may be mended without any of our objects changing, so that it is tried again.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	result, err := r.main.Reconcile(ctx, req)
	refusal := shared.RefusalOf(err)
	if refusal == nil {
		return result, err
	}
	result, err = r.newLoop(refusal).Reconcile(ctx, req)
	if err == nil && result.IsZero() {
		result.RequeueAfter = refusalDelay
	}
	return result, err
}

func (r *reconciler) newLoop(refusal *shared.Refusal) *loop {
	return &loop{
		Executor: r.Executor,
		New: func() *v1alpha2.VirtualMachineBlockDeviceAttachment {
			return &v1alpha2.VirtualMachineBlockDeviceAttachment{}
		},
		Observe: func(ctx context.Context, object *v1alpha2.VirtualMachineBlockDeviceAttachment) (Observed, error) {
			observed, err := r.observe(ctx, object)
			observed.Refusal = refusal
			return observed, err
		},
		Decide: decide,
	}
}

func (r *reconciler) observe(ctx context.Context, object *v1alpha2.VirtualMachineBlockDeviceAttachment) (Observed, error) {
	o := Observed{Attachment: object, Now: r.clock.Now()}
	for _, step := range []func(context.Context, *Observed) error{
		r.observeMachine, r.observeDevice, r.observeClaim, r.observePlace,
	} {
		if err := step(ctx, &o); err != nil {
			return Observed{}, err
		}
	}
	return o, nil
}

// observeMachine reads the machine with the engine's objects, and what becomes of the
// attachment among the machine's others. A namesake's objects are none of its.
func (r *reconciler) observeMachine(ctx context.Context, o *Observed) error {
	key := client.ObjectKey{Namespace: o.Attachment.Namespace, Name: o.Attachment.Spec.VirtualMachineName}
	var err error
	if o.Machine, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualMachine{}); err != nil || o.Machine == nil {
		return err
	}
	attachments := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	err = r.Client.List(ctx, attachments, client.InNamespace(key.Namespace), client.MatchingFields{indexByMachine: key.Name})
	if err != nil {
		return fmt.Errorf("listing the machine's attachments: %w", err)
	}
	o.Verdict = attachment.Find(attachment.Judge(o.Machine, attachments.Items), o.Attachment.UID)
	engine, err := shared.Find(ctx, r.Client, key, &virtv1.VirtualMachine{})
	if err != nil || engine == nil || !metav1.IsControlledBy(engine, o.Machine) {
		return err
	}
	o.Engine = engine
	guest, err := shared.Find(ctx, r.Client, key, &virtv1.VirtualMachineInstance{})
	if guest != nil && metav1.IsControlledBy(guest, engine) {
		o.Guest = guest
	}
	return err
}

func (r *reconciler) observeDevice(ctx context.Context, o *Observed) error {
	ref := o.Attachment.Spec.BlockDeviceRef
	key := client.ObjectKey{Namespace: o.Attachment.Namespace, Name: ref.Name}
	var err error
	switch ref.Kind {
	case v1alpha2.BlockDeviceVirtualDisk:
		o.Disk, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualDisk{})
	case v1alpha2.BlockDeviceVirtualImage:
		o.Image, err = shared.Find(ctx, r.Client, key, &v1alpha2.VirtualImage{})
	case v1alpha2.BlockDeviceClusterVirtualImage:
		o.ClusterImage, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: ref.Name}, &v1alpha2.ClusterVirtualImage{})
	}
	return err
}

// observeClaim reads the claim that is plugged in, and what a copy would be made on.
func (r *reconciler) observeClaim(ctx context.Context, o *Observed) error {
	key := client.ObjectKey{Namespace: o.Attachment.Namespace, Name: attachment.ClaimName(o.Attachment.UID)}
	var err error
	if o.Copy, err = shared.Find(ctx, r.Client, key, &corev1.PersistentVolumeClaim{}); err != nil {
		return err
	}
	if key.Name = o.claimName(); key.Name != "" {
		if o.Claim, err = shared.Find(ctx, r.Client, key, &corev1.PersistentVolumeClaim{}); err != nil {
			return err
		}
	}
	if o.Copy != nil || !o.needsCopy() || o.Attachment.DeletionTimestamp != nil {
		return nil
	}
	o.Storage, err = filling.ObserveStorage(ctx, r.Client, nil, r.classes, nil)
	return err
}

// observePlace reads where the volume and the guest are.
func (r *reconciler) observePlace(ctx context.Context, o *Observed) error {
	if o.Claim == nil || o.Claim.Spec.VolumeName == "" || !o.guestRuns() || o.holds() {
		return nil
	}
	var err error
	if o.Volume, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: o.Claim.Spec.VolumeName}, &corev1.PersistentVolume{}); err != nil {
		return err
	}
	o.Node, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: o.Guest.Status.NodeName}, &corev1.Node{})
	return err
}
