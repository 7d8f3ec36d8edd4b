// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// Image is what the decision needs to know of a VirtualImage or a
// ClusterVirtualImage. Nothing in it points into the cache.
type Image struct {
	Kind string
	// Namespace is empty for a cluster image.
	Namespace  string
	Name       string
	UID        types.UID
	Generation int64
	// Annotations may choose the modes of a volume.
	Annotations map[string]string
	// DeletedAt is set while the image is being deleted.
	DeletedAt *time.Time
	// Held tells that our finalizer is on the image.
	Held   bool
	Spec   Spec
	Status Status
}

// Spec is the part of both kinds' specs that decides what is made.
type Spec struct {
	Source origin.Words
	// Storage is empty for kinds that can only be kept in the registry.
	Storage v1alpha2.StorageType
	// StorageClass is that of a volume, nil for the default.
	StorageClass *string
}

// Status is the part of the status that both kinds have, and what only one has
// and is written by its adapter.
type Status struct {
	v1alpha2.ImageStatus
	Phase       v1alpha2.ImagePhase
	RegistryURL string
	// ClaimName and StorageClass are of VirtualImage.
	ClaimName    string
	StorageClass string
	// UsedIn is of ClusterVirtualImage.
	UsedIn []string
}

// Settings say where things are in this cluster. They never change while the
// controller runs.
type Settings struct {
	importerpod.Settings
	// RegistryAddress is the host, with a port if it is not 443, of DVCR.
	RegistryAddress string
	// Classes are the storage classes for images on volumes.
	Classes filling.Classes
}

// Observed is everything that a decision is made from.
type Observed struct {
	Image    Image
	Now      time.Time
	Settings Settings
	// Facts are what was looked up for the data source.
	Facts origin.Facts
	// Pods are the importers that work for the image, wherever they are.
	Pods []*corev1.Pod
	// Progress is the importer's newest report, or nil.
	Progress *reportserver.Report
	// Credential is a fresh one, for a Secret that has to be written.
	Credential importerpod.Credential
	Upload     UploadFacts
	Volume     VolumeFacts
	// Users are those that use the image at the moment, sorted.
	Users []usage.User
	// Presence tells whether the image was in the registry when it was last looked
	// for; nil if that is not known.
	Presence *Presence
	// CleanupFailure is the last attempt to empty the registry, if it failed.
	CleanupFailure *CleanupFailure
	// Refusal is set when the plan that was made without it could not be carried out.
	Refusal *shared.Refusal
}

// UploadFacts are what is known of an upload.
type UploadFacts struct {
	// Open is the upload whose addresses were told, or nil.
	Open *importerpod.Upload
	// Fresh is for one that has to be opened.
	Fresh importerpod.Upload
	// Service and Ingress lead to the importer; nil if they are not there.
	Service *corev1.Service
	Ingress *networkingv1.Ingress
}

// VolumeFacts are what is known of the volume of an image that is kept on one.
type VolumeFacts struct {
	// Claim is the image's own, or nil.
	Claim   *corev1.PersistentVolumeClaim
	Filling filling.Filling
	Storage filling.Storage
	// Filler makes the objects of a new fill.
	Filler filling.Filler
}

// Presence is the answer of the registry.
type Presence struct {
	Found bool
	At    time.Time
}

// CleanupFailure says why the registry could not be emptied, and when that was tried.
type CleanupFailure struct {
	Message string
	At      time.Time
}

// Decision is what the image and its helpers should be.
type Decision struct {
	Finalizer shared.FinalizerChange
	Delete    []client.Object
	Apply     []shared.Child
	Create    []client.Object
	// EmptyRegistry asks for the image to be deleted from the registry before the
	// finalizer is changed.
	EmptyRegistry bool
	// Checkpoint is to be kept in the Secret of that name; nil if there is none.
	Checkpoint []byte
	Secret     client.ObjectKey
	// Forget tells that the reports that came in so far are about something else.
	Forget       bool
	Status       Status
	Events       []shared.Event
	RequeueAfter time.Duration
}

// Reasons of the events about an image.
const (
	// eventStarted: an importer was ordered.
	eventStarted = "ImportStarted"
	// eventSucceeded: the image can be used.
	eventSucceeded = "ImportSucceeded"
	// eventFailed: the import cannot go on, or not now.
	eventFailed = "ImportFailed"
	// eventWaiting: the import waits for something that will come by itself.
	eventWaiting = "ImportWaiting"
	// eventExpired: nobody finished an upload in time.
	eventExpired = "UploadExpired"
	// eventLost: a finished image has vanished.
	eventLost = "ImageLost"
	// eventFound: an image that had vanished is there again.
	eventFound = "ImageFound"
	// eventLeftovers: a deleted image could not be removed from the registry.
	eventLeftovers = "ImageLeftInRegistry"
)

// Subject is whom the importer's token is issued for; progress comes in under it.
func (i Image) Subject() token.Subject {
	return token.Subject{Kind: i.Kind, Namespace: i.Namespace, Name: i.Name, UID: string(i.UID)}
}

// Repository is where the image lives in the registry.
func (i Image) Repository() string { return dvcr.Repository(i.Kind, i.Namespace, i.Name) }

// Reference is the full name of the image in the registry.
func (i Image) Reference(address string) string {
	return dvcr.Reference(address, i.Kind, i.Namespace, i.Name, string(i.UID))
}

// OnVolume tells that the image is kept on a volume.
func (i Image) OnVolume() bool {
	return i.Spec.Storage == v1alpha2.StoragePersistentVolumeClaim || i.Spec.Storage == v1alpha2.StorageKubernetes
}

// ChildName is the name of the importer's Pod and Secret. It holds the uid, so an
// image that is deleted and made anew never meets its predecessor's children.
func (i Image) ChildName() string {
	short := "vi"
	if i.Kind == v1alpha2.ClusterVirtualImageKind {
		short = "cvi"
	}
	return "d8v-" + short + "-importer-" + string(i.UID)
}

// places are the namespaces where an importer of the image may have left a Secret:
// the module's, the image's own, and that of a claim that was read.
func (i Image) places(settings Settings) []string {
	out := []string{settings.Namespace}
	add := func(namespace string) {
		for _, known := range out {
			if known == namespace {
				return
			}
		}
		if namespace != "" {
			out = append(out, namespace)
		}
	}
	add(i.Namespace)
	if object := i.Spec.Source.Object; object != nil {
		add(object.Namespace)
	}
	return out
}

func (i Image) self() origin.Object {
	return origin.Object{Kind: i.Kind, Namespace: i.Namespace, Name: i.Name}
}

func (i Image) owner() filling.Owner {
	return filling.Owner{Kind: i.Kind, Namespace: i.Namespace, Name: i.Name, UID: i.UID}
}
