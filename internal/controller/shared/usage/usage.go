// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package usage finds out who uses an image, so that it is not deleted under its
// users, and which machines hold a disk, so that nobody reads it meanwhile.
//
// An image is used by machines that name it, by attachments that are in effect, by
// disks and images that are being made from it, and by claims that are being filled
// from it. A disk that is ready
// has a copy of its own and needs the image no more.
package usage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

// User is an object that uses another one.
type User struct {
	Kind string
	// Namespace is empty for cluster-wide kinds.
	Namespace string
	Name      string
}

// String is how people are told of the user.
func (u User) String() string {
	if u.Namespace == "" {
		return u.Kind + " " + u.Name
	}
	return fmt.Sprintf("%s %s/%s", u.Kind, u.Namespace, u.Name)
}

// Names lists at most limit users and says how many more there are.
func Names(users []User, limit int) string {
	var out []string
	for i, user := range users {
		if i == limit {
			return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), len(users)-limit)
		}
		out = append(out, user.String())
	}
	return strings.Join(out, ", ")
}

// Namespaces lists where the users are, sorted.
func Namespaces(users []User) []string {
	var out []string
	for _, user := range users {
		if user.Namespace != "" {
			out = append(out, user.Namespace)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Finder looks users up in the cache.
type Finder struct {
	reader client.Reader
	field  string
}

// New makes a finder for the controller with the name, and the indexes it needs.
func New(mgr ctrl.Manager, controller string) (*Finder, error) {
	f := NewFinder(mgr.GetClient(), controller)
	for _, object := range Kinds() {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), object, f.field, Keys); err != nil {
			return nil, fmt.Errorf("indexing %T by what it uses: %w", object, err)
		}
	}
	return f, nil
}

// NewFinder makes a finder over a reader that has the index Field(controller) on
// all Kinds.
func NewFinder(reader client.Reader, controller string) *Finder {
	return &Finder{reader: reader, field: Field(controller)}
}

// Field is the name of the index of a controller.
func Field(controller string) string { return controller + ".uses" }

// Kinds are those that use images and disks.
func Kinds() []client.Object {
	return []client.Object{
		&v1alpha2.VirtualMachine{}, &v1alpha2.VirtualDisk{}, &v1alpha2.VirtualImage{}, &v1alpha2.ClusterVirtualImage{},
		&v1alpha2.VirtualMachineBlockDeviceAttachment{}, &corev1.PersistentVolumeClaim{},
	}
}

func key(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// Keys lists what an object names as its device or source, whether it uses it at
// the moment or not.
func Keys(object client.Object) []string {
	namespace := object.GetNamespace()
	named := func(kind, name string) string {
		if kind == v1alpha2.ClusterVirtualImageKind {
			return key(kind, "", name)
		}
		return key(kind, namespace, name)
	}
	var out []string
	switch typed := object.(type) {
	case *v1alpha2.VirtualMachine:
		for _, ref := range typed.Spec.BlockDeviceRefs {
			out = append(out, named(string(ref.Kind), ref.Name))
		}
		for _, ref := range typed.Status.BlockDeviceRefs {
			out = append(out, named(string(ref.Kind), ref.Name))
		}
	case *v1alpha2.VirtualMachineBlockDeviceAttachment:
		out = append(out, named(string(typed.Spec.BlockDeviceRef.Kind), typed.Spec.BlockDeviceRef.Name))
	case *v1alpha2.VirtualDisk:
		if source := typed.Spec.DataSource; source != nil && source.ObjectRef != nil {
			out = append(out, named(source.ObjectRef.Kind, source.ObjectRef.Name))
		}
	case *v1alpha2.VirtualImage:
		if ref := typed.Spec.DataSource.ObjectRef; ref != nil {
			out = append(out, named(ref.Kind, ref.Name))
		}
	case *v1alpha2.ClusterVirtualImage:
		if ref := typed.Spec.DataSource.ObjectRef; ref != nil {
			namespace = ref.Namespace
			out = append(out, named(ref.Kind, ref.Name))
		}
	case *corev1.PersistentVolumeClaim:
		if ref := typed.Spec.DataSourceRef; ref != nil && ref.APIGroup != nil && *ref.APIGroup == v1alpha2.SchemeGroupVersion.Group {
			out = append(out, named(ref.Kind, ref.Name))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Users lists who uses the image at the moment, sorted.
func (f *Finder) Users(ctx context.Context, kind, namespace, name, uid string) ([]User, error) {
	var out []User
	for _, list := range []client.ObjectList{
		&v1alpha2.VirtualMachineList{}, &v1alpha2.VirtualDiskList{}, &v1alpha2.VirtualImageList{}, &v1alpha2.ClusterVirtualImageList{},
		&v1alpha2.VirtualMachineBlockDeviceAttachmentList{}, &corev1.PersistentVolumeClaimList{},
	} {
		// Only names are taken out of the cached objects.
		err := f.reader.List(ctx, list, client.MatchingFields{f.field: key(kind, namespace, name)}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("listing the users of %s: %w", User{kind, namespace, name}, err)
		}
		out = append(out, usersIn(list, uid)...)
	}
	slices.SortFunc(out, func(a, b User) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

func usersIn(list client.ObjectList, uid string) []User {
	var out []User
	add := func(kind string, object client.Object) {
		out = append(out, User{Kind: kind, Namespace: object.GetNamespace(), Name: object.GetName()})
	}
	switch typed := list.(type) {
	case *v1alpha2.VirtualMachineList:
		for i := range typed.Items {
			add(v1alpha2.VirtualMachineKind, &typed.Items[i])
		}
	case *v1alpha2.VirtualDiskList:
		for i := range typed.Items {
			if phase := typed.Items[i].Status.Phase; phase == v1alpha2.DiskProvisioning || phase == v1alpha2.DiskWaitForFirstConsumer {
				add(v1alpha2.VirtualDiskKind, &typed.Items[i])
			}
		}
	case *v1alpha2.VirtualImageList:
		for i := range typed.Items {
			if isMadeFrom(typed.Items[i].Status.ImageStatus, typed.Items[i].Status.Phase, uid) {
				add(v1alpha2.VirtualImageKind, &typed.Items[i])
			}
		}
	case *v1alpha2.ClusterVirtualImageList:
		for i := range typed.Items {
			if isMadeFrom(typed.Items[i].Status.ImageStatus, typed.Items[i].Status.Phase, uid) {
				add(v1alpha2.ClusterVirtualImageKind, &typed.Items[i])
			}
		}
	case *v1alpha2.VirtualMachineBlockDeviceAttachmentList:
		for i := range typed.Items {
			if holdsDevice(&typed.Items[i]) {
				add(v1alpha2.VirtualMachineBlockDeviceAttachmentKind, &typed.Items[i])
			}
		}
	case *corev1.PersistentVolumeClaimList:
		for i := range typed.Items {
			if isFilled(&typed.Items[i]) {
				add(filling.ClaimKind, &typed.Items[i])
			}
		}
	}
	return out
}

// holdsDevice tells whether a machine has the attachment's device, or is to have it
// any moment.
func holdsDevice(attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) bool {
	return meta.IsStatusConditionTrue(attachment.Status.Conditions, v1alpha2.ConditionBlockDeviceReady) &&
		attachment.Status.Phase != v1alpha2.AttachmentFailed
}

// isMadeFrom tells whether an image has begun to be made from the object with the
// uid and is not ready yet.
func isMadeFrom(status v1alpha2.ImageStatus, phase v1alpha2.ImagePhase, uid string) bool {
	begun := phase == v1alpha2.ImageProvisioning || phase == v1alpha2.ImagePending
	return begun && uid != "" && status.SourceUID == uid
}

// isFilled tells whether bytes flow into the claim. Those of disks and images of
// ours are told of under the name of their owner.
func isFilled(claim *corev1.PersistentVolumeClaim) bool {
	if strings.HasPrefix(claim.Name, filling.DiskClaimPrefix) || strings.HasPrefix(claim.Name, filling.ImageClaimPrefix) {
		return false
	}
	return filling.ParsePopulation(claim).State == filling.PopulationRunning
}

// Holders lists the machines that have the disk, or may have it any moment: those
// that name it and are not off. A new machine counts: until its guest runs, its status
// may not tell that it starts.
func (f *Finder) Holders(ctx context.Context, namespace, disk string) ([]string, error) {
	machines := &v1alpha2.VirtualMachineList{}
	err := f.reader.List(ctx, machines, client.UnsafeDisableDeepCopy,
		client.MatchingFields{f.field: key(v1alpha2.VirtualDiskKind, namespace, disk)})
	if err != nil {
		return nil, fmt.Errorf("listing the machines with VirtualDisk %s/%s: %w", namespace, disk, err)
	}
	var out []string
	for i := range machines.Items {
		if machine := &machines.Items[i]; mayHold(machine) {
			out = append(out, machine.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

func mayHold(machine *v1alpha2.VirtualMachine) bool {
	off := machine.Status.Phase == v1alpha2.MachinePending || machine.Status.Phase == v1alpha2.MachineStopped
	return shared.IsNewMachine(machine) || !off
}
