// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package clustervirtualimage

import (
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
)

// ControllerName is the name of the controller in logs, metrics and events.
const ControllerName = "clustervirtualimage"

// Options are those of every image controller.
type Options = imageimport.Options

// Setup registers the controller.
func Setup(mgr ctrl.Manager, options Options) error {
	return imageimport.Setup(mgr, ControllerName, options, adapter())
}

func adapter() imageimport.Adapter[*v1alpha2.ClusterVirtualImage] {
	return imageimport.Adapter[*v1alpha2.ClusterVirtualImage]{
		Kind:      v1alpha2.ClusterVirtualImageKind,
		Finalizer: v1alpha2.FinalizerCVICleanup,
		New:       func() *v1alpha2.ClusterVirtualImage { return &v1alpha2.ClusterVirtualImage{} },
		NewList:   func() client.ObjectList { return &v1alpha2.ClusterVirtualImageList{} },
		Read:      read,
		Write:     write,
	}
}

func read(image *v1alpha2.ClusterVirtualImage) (imageimport.Spec, imageimport.Status) {
	status := imageimport.Status{
		ImageStatus: *image.Status.ImageStatus.DeepCopy(),
		Phase:       image.Status.Phase,
		RegistryURL: image.Status.Target.RegistryURL,
		UsedIn:      image.Status.UsedInNamespaces,
	}
	return imageimport.Spec{Source: words(image.DeepCopy())}, status
}

// words takes the data source out of an object that the caller owns. What it names
// is in a namespace that it names too.
func words(image *v1alpha2.ClusterVirtualImage) origin.Words {
	source := image.Spec.DataSource
	out := origin.Words{Type: source.Type, HTTP: source.HTTP, Upload: source.Upload}
	if container := source.ContainerImage; container != nil {
		out.ContainerImage = &origin.ContainerImage{Image: string(container.Image), CABundle: container.CABundle}
		if secret := container.ImagePullSecret; secret != nil && secret.Name != "" {
			out.ContainerImage.Secret = types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name}
		}
	}
	if ref := source.ObjectRef; ref != nil {
		out.Object = &origin.Object{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}
		if ref.Kind == v1alpha2.ClusterVirtualImageKind {
			out.Object.Namespace = ""
		}
	}
	return out
}

func write(image *v1alpha2.ClusterVirtualImage, status imageimport.Status) {
	image.Status.ImageStatus = status.ImageStatus
	image.Status.Phase = status.Phase
	image.Status.Target.RegistryURL = status.RegistryURL
	image.Status.UsedInNamespaces = status.UsedIn
}
