// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualimage

import (
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
)

// ControllerName is the name of the controller in logs, metrics and events.
const ControllerName = "virtualimage"

// Options are those of every image controller.
type Options = imageimport.Options

// Setup registers the controller.
func Setup(mgr ctrl.Manager, options Options) error {
	return imageimport.Setup(mgr, ControllerName, options, adapter())
}

func adapter() imageimport.Adapter[*v1alpha2.VirtualImage] {
	return imageimport.Adapter[*v1alpha2.VirtualImage]{
		Kind:      v1alpha2.VirtualImageKind,
		Finalizer: v1alpha2.FinalizerVICleanup,
		Volumes:   true,
		New:       func() *v1alpha2.VirtualImage { return &v1alpha2.VirtualImage{} },
		NewList:   func() client.ObjectList { return &v1alpha2.VirtualImageList{} },
		Read:      read,
		Write:     write,
	}
}

func read(image *v1alpha2.VirtualImage) (imageimport.Spec, imageimport.Status) {
	spec := imageimport.Spec{Source: words(image.DeepCopy()), Storage: image.Spec.Storage}
	if claim := image.Spec.PersistentVolumeClaim; claim != nil {
		spec.StorageClass = claim.StorageClassName
	}
	status := imageimport.Status{
		ImageStatus:  *image.Status.ImageStatus.DeepCopy(),
		Phase:        image.Status.Phase,
		RegistryURL:  image.Status.Target.RegistryURL,
		ClaimName:    image.Status.Target.PersistentVolumeClaimName,
		StorageClass: image.Status.StorageClassName,
	}
	return spec, status
}

// words takes the data source out of an object that the caller owns.
func words(image *v1alpha2.VirtualImage) origin.Words {
	source := image.Spec.DataSource
	out := origin.Words{Type: source.Type, HTTP: source.HTTP, Upload: source.Upload}
	if container := source.ContainerImage; container != nil {
		out.ContainerImage = &origin.ContainerImage{Image: string(container.Image), CABundle: container.CABundle}
		if secret := container.ImagePullSecret; secret != nil && secret.Name != "" {
			out.ContainerImage.Secret = types.NamespacedName{Namespace: image.Namespace, Name: secret.Name}
		}
	}
	if ref := source.ObjectRef; ref != nil {
		out.Object = &origin.Object{Kind: ref.Kind, Namespace: image.Namespace, Name: ref.Name}
		if ref.Kind == v1alpha2.ClusterVirtualImageKind {
			out.Object.Namespace = ""
		}
	}
	return out
}

func write(image *v1alpha2.VirtualImage, status imageimport.Status) {
	image.Status.ImageStatus = status.ImageStatus
	image.Status.Phase = status.Phase
	image.Status.Target = v1alpha2.VirtualImageTarget{RegistryURL: status.RegistryURL, PersistentVolumeClaimName: status.ClaimName}
	image.Status.StorageClassName = status.StorageClass
}
