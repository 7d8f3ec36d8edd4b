// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// AddedByAnnotation names the user for whom addvolume made an attachment.
const AddedByAnnotation = "virtualization.deckhouse.io/added-by"

// pluggable are the kinds of volumes, in the order in which a name is looked for.
var pluggable = []v1alpha2.BlockDeviceKind{
	v1alpha2.BlockDeviceVirtualDisk, v1alpha2.BlockDeviceVirtualImage, v1alpha2.BlockDeviceClusterVirtualImage,
}

// volumes serves addvolume and removevolume. What a machine has is what its spec and
// its attachments say, and the engine's object follows them: so a volume is added by an
// attachment, and removed with it. It would be taken out again otherwise.
//
// A call without options of this API has the body of KubeVirt's own, and means the same.
// It cannot be handed on: KubeVirt refuses to add a volume to a guest that belongs to a
// machine, as all of ours do.
type volumes struct {
	client client.Client
}

// volumeRequest is what a client asks for: in the query, or in the body as KubeVirt's
// clients do.
type volumeRequest struct {
	name   string
	kinds  []v1alpha2.BlockDeviceKind
	claim  string
	serial string
	dryRun []string
}

// device is a block device of the platform, by all the names that clients have for it.
type device struct {
	ref    v1alpha2.AttachmentBlockDeviceRef
	serial string
	claim  string
}

func (d device) volume() string { return kubevirt.VolumeName(d.ref.Kind, d.ref.Name) }

// goesBy tells whether the name means the device: that of its volume, its own, or its
// claim's.
func (d device) goesBy(name string) bool {
	return name == d.volume() || name == d.ref.Name || d.claim != "" && name == d.claim
}

func (v volumes) add(ctx context.Context, machine *v1alpha2.VirtualMachine, in order) error {
	request, err := addRequest(in)
	if err != nil {
		return err
	}
	found, err := v.find(ctx, machine.Namespace, request)
	if err != nil {
		return err
	}
	if request.serial != "" && request.serial != found.serial {
		return apierrors.NewBadRequest(fmt.Sprintf("serial=%s: the guest sees %s %s with the serial number %s; leave the parameter out",
			request.serial, found.ref.Kind, found.ref.Name, found.serial))
	}
	wanted := &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: machine.Namespace, GenerateName: machine.Name + "-"},
		Spec:       v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{VirtualMachineName: machine.Name, BlockDeviceRef: found.ref},
	}
	if who, ok := genericapirequest.UserFrom(ctx); ok {
		wanted.Annotations = map[string]string{AddedByAnnotation: who.GetName()}
	}
	attachments, err := v.attachments(ctx, machine)
	if err != nil {
		return err
	}
	if verdict := attachment.Find(attachment.Judge(machine, append(attachments, youngest(wanted, attachments))), wanted.UID); !verdict.Accepted {
		return apierrors.NewConflict(resource("addvolume"), machine.Name, errors.New(verdict.Message))
	}
	return v.client.Create(ctx, wanted, &client.CreateOptions{DryRun: request.dryRun})
}

// youngest is the attachment as it would come after all others.
func youngest(wanted *v1alpha2.VirtualMachineBlockDeviceAttachment, others []v1alpha2.VirtualMachineBlockDeviceAttachment) v1alpha2.VirtualMachineBlockDeviceAttachment {
	out := *wanted.DeepCopy()
	for i := range others {
		if last := others[i].CreationTimestamp; out.CreationTimestamp.Before(&last) || out.CreationTimestamp.Equal(&last) {
			out.CreationTimestamp = metav1.NewTime(last.Add(1))
		}
	}
	return out
}

func (v volumes) remove(ctx context.Context, machine *v1alpha2.VirtualMachine, in order) error {
	var options virtv1.RemoveVolumeOptions
	if err := in.decode(&options); err != nil {
		return err
	}
	name := cmp.Or(in.query.Get("name"), options.Name)
	if name == "" {
		return apierrors.NewBadRequest("name=: name the volume to remove")
	}
	if err := checkDryRun(options.DryRun); err != nil {
		return err
	}
	attachments, err := v.attachments(ctx, machine)
	if err != nil {
		return err
	}
	found := false
	for i := range attachments {
		current := &attachments[i]
		claim, err := v.claimOf(ctx, machine.Namespace, current.Spec.BlockDeviceRef)
		if err != nil {
			return err
		}
		if !(device{ref: current.Spec.BlockDeviceRef, claim: claim}).goesBy(name) {
			continue
		}
		found = true
		deletion := &client.DeleteOptions{DryRun: options.DryRun, Preconditions: &metav1.Preconditions{UID: &current.UID}}
		if err := v.client.Delete(ctx, current, deletion); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	if !found {
		return apierrors.NewConflict(resource("removevolume"), machine.Name, noSuchVolume(machine, name))
	}
	return nil
}

// noSuchVolume tells a volume that cannot be removed here from one that is not there.
func noSuchVolume(machine *v1alpha2.VirtualMachine, name string) error {
	for _, ref := range machine.Spec.BlockDeviceRefs {
		if (device{ref: v1alpha2.AttachmentBlockDeviceRef{Kind: ref.Kind, Name: ref.Name}}).goesBy(name) {
			return fmt.Errorf("volume %s is in the machine's spec: take %s %s out of spec.blockDeviceRefs", name, ref.Kind, ref.Name)
		}
	}
	return fmt.Errorf("the machine has no attachment of a volume %s", name)
}

// attachments are those of the machine, without those that are on their way out.
func (v volumes) attachments(ctx context.Context, machine *v1alpha2.VirtualMachine) ([]v1alpha2.VirtualMachineBlockDeviceAttachment, error) {
	list := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	if err := v.client.List(ctx, list, client.InNamespace(machine.Namespace)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(a v1alpha2.VirtualMachineBlockDeviceAttachment) bool {
		return a.Spec.VirtualMachineName != machine.Name || a.DeletionTimestamp != nil
	}), nil
}

// addRequest reads what the client wants to add.
func addRequest(in order) (volumeRequest, error) {
	var options virtv1.AddVolumeOptions
	if err := in.decode(&options); err != nil {
		return volumeRequest{}, err
	}
	out := volumeRequest{
		name:  cmp.Or(in.query.Get("name"), options.Name),
		kinds: pluggable, claim: in.query.Get("pvcName"), serial: in.query.Get("serial"),
	}
	if source := options.VolumeSource; out.claim == "" && source != nil {
		switch {
		case source.PersistentVolumeClaim != nil:
			out.claim = source.PersistentVolumeClaim.ClaimName
		case source.DataVolume != nil:
			// A DataVolume and its claim have one name.
			out.claim = source.DataVolume.Name
		}
	}
	if out.name == "" {
		return out, apierrors.NewBadRequest("name=: name the volume, such as vd-data for the VirtualDisk data")
	}
	if kind := in.query.Get("volumeKind"); kind != "" {
		out.kinds = []v1alpha2.BlockDeviceKind{v1alpha2.BlockDeviceKind(kind)}
		if !slices.Contains(pluggable, out.kinds[0]) {
			return out, apierrors.NewBadRequest(fmt.Sprintf("volumeKind=%s: use VirtualDisk, VirtualImage or ClusterVirtualImage", kind))
		}
	}
	if value := in.query.Get("isCdrom"); value != "" {
		cdrom, err := strconv.ParseBool(value)
		if err != nil || cdrom {
			return out, apierrors.NewBadRequest(fmt.Sprintf("isCdrom=%s: a guest that runs gets no CD-ROMs; "+
				"use false, and the image becomes a read-only disk, or name it in spec.blockDeviceRefs of the machine", value))
		}
	}
	out.dryRun = options.DryRun
	return out, checkDryRun(options.DryRun)
}

// find looks for the device among the disks and images that the machine can have.
func (v volumes) find(ctx context.Context, namespace string, request volumeRequest) (device, error) {
	for _, kind := range request.kinds {
		devices, err := v.devices(ctx, namespace, kind)
		if err != nil {
			return device{}, err
		}
		// A disk may be called what another's volume is called: volumes come first.
		for _, is := range []func(device) bool{
			func(d device) bool { return request.claim != "" && d.claim == request.claim && d.goesBy(request.name) },
			func(d device) bool { return request.claim == "" && d.volume() == request.name },
			func(d device) bool { return request.claim == "" && d.goesBy(request.name) },
		} {
			if i := slices.IndexFunc(devices, is); i >= 0 {
				return devices[i], nil
			}
		}
	}
	what := fmt.Sprintf("name=%s", request.name)
	if request.claim != "" {
		what += " with pvcName=" + request.claim
	}
	return device{}, apierrors.NewBadRequest(fmt.Sprintf("%s: there is no such VirtualDisk or image here; "+
		"a volume is called vd-, vi- or cvi- and the name of its VirtualDisk, VirtualImage or ClusterVirtualImage", what))
}

func (v volumes) devices(ctx context.Context, namespace string, kind v1alpha2.BlockDeviceKind) ([]device, error) {
	var out []device
	add := func(object client.Object, claim string) {
		out = append(out, device{
			ref:    v1alpha2.AttachmentBlockDeviceRef{Kind: kind, Name: object.GetName()},
			serial: kubevirt.Serial(object.GetUID()), claim: claim,
		})
	}
	switch kind {
	case v1alpha2.BlockDeviceVirtualDisk:
		list := &v1alpha2.VirtualDiskList{}
		if err := v.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for i := range list.Items {
			add(&list.Items[i], list.Items[i].Status.Target.PersistentVolumeClaimName)
		}
	case v1alpha2.BlockDeviceVirtualImage:
		list := &v1alpha2.VirtualImageList{}
		if err := v.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for i := range list.Items {
			add(&list.Items[i], list.Items[i].Status.Target.PersistentVolumeClaimName)
		}
	case v1alpha2.BlockDeviceClusterVirtualImage:
		list := &v1alpha2.ClusterVirtualImageList{}
		if err := v.client.List(ctx, list); err != nil {
			return nil, err
		}
		for i := range list.Items {
			add(&list.Items[i], "")
		}
	}
	return out, nil
}

// claimOf is the claim of a device; none if it has none, or is gone.
func (v volumes) claimOf(ctx context.Context, namespace string, ref v1alpha2.AttachmentBlockDeviceRef) (string, error) {
	devices, err := v.devices(ctx, namespace, ref.Kind)
	if err != nil {
		return "", err
	}
	for _, device := range devices {
		if device.ref == ref {
			return device.claim, nil
		}
	}
	return "", nil
}
