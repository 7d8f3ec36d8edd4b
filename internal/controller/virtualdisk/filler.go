// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// Filler makes the volume of a disk and fills it. The decision knows nothing of
// how: CDI's DataVolumes are one way, a writer of our own will be another.
type Filler interface {
	// Observe reads the fill that is under way for the disk, if any.
	Observe(ctx context.Context, reader client.Reader, disk Disk) (Filling, error)
	// Start returns the objects that carry out the fill: the first are kept equal to
	// what is returned, the second are made once. It is pure.
	Start(fill Fill) (apply []shared.Child, create []client.Object)
	// Renew returns what gives a fill that is under way another credential. It is pure.
	Renew(filling Filling, credential Credential) []shared.Child
	// Kinds returns an empty object of each kind that Observe reads, to be watched.
	Kinds() []client.Object
}

// Disk identifies the disk.
type Disk struct {
	Namespace string
	Name      string
	UID       types.UID
}

const claimPrefix = "d8v-vd-"

// ClaimName is the name of the disk's PersistentVolumeClaim. It holds the uid, so
// a disk that is deleted and made anew never takes over its predecessor's data.
func (d Disk) ClaimName() string { return claimPrefix + string(d.UID) }

// Fill is an order to make a volume with some content.
type Fill struct {
	Disk Disk
	// Spec identifies the order: a fill of another order is stopped and begun anew.
	Spec FillSpec
	// Image is the reference of the source in the registry, SourceUID the uid of its
	// object; both are empty for a blank disk.
	Image            string
	SourceUID        types.UID
	StorageClassName string
	Modes            Modes
	Size             resource.Quantity
	// Credential opens the source; it is empty for a blank disk.
	Credential Credential
}

// FillSpec is the order in the user's own words: nothing in it changes unless the
// user changes the disk.
type FillSpec struct {
	SourceKind string
	SourceName string
	// StorageClassName and Size are as in the disk's spec.
	StorageClassName string
	Size             string
	// VolumeMode, AccessMode and BindingMode are the disk's own annotations.
	VolumeMode  string
	AccessMode  string
	BindingMode string
}

// Credential is a token that pulls one image.
type Credential struct {
	Token     string
	ExpiresAt time.Time
}

// FillState is where a fill stands.
type FillState string

const (
	// FillNone means that there is no fill.
	FillNone FillState = ""
	// FillPending means that the fill has not begun.
	FillPending FillState = "Pending"
	// FillWaitingForConsumer means that the storage waits for the first consumer.
	FillWaitingForConsumer FillState = "WaitingForConsumer"
	// FillRunning means that bytes are being written.
	FillRunning FillState = "Running"
	// FillTroubled means that the last attempt failed and another one follows by itself.
	FillTroubled FillState = "Troubled"
	// FillFailed means that somebody has to look.
	FillFailed FillState = "Failed"
	// FillDone means that the volume holds the content.
	FillDone FillState = "Done"
)

// Filling is a fill that was observed.
type Filling struct {
	Disk  Disk
	State FillState
	// UID is that of the object that carries the fill out.
	UID types.UID
	// Hash is the FillSpec.Hash of the order that is being carried out.
	Hash string
	// SourceUID is the uid of the image that is being read; empty for a blank disk.
	SourceUID types.UID
	// Percent is how much is done, 0 if it is not known.
	Percent int
	// Message says what is being waited for or what failed.
	Message string
	// Quota tells that the message is about a quota of the namespace.
	Quota bool
	// Terminating tells that the fill is being deleted.
	Terminating bool
	// HasCredential tells that the fill reads from the registry, CredentialExpiresAt
	// until when it may.
	HasCredential       bool
	CredentialExpiresAt time.Time
	// Objects are what there is to delete when the fill is over or unwanted, in this
	// order: the last one is what the fill is known by.
	Objects []client.Object
}

// Exists tells whether there is a fill at all.
func (f Filling) Exists() bool { return f.State != FillNone }
