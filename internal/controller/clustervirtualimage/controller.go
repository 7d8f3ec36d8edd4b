// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package clustervirtualimage

import (
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/imageimport"
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
		Read:      read,
		Write:     write,
	}
}

func read(image *v1alpha2.ClusterVirtualImage) (imageimport.Source, imageimport.Status) {
	source := imageimport.Source{
		Type: image.Spec.DataSource.Type,
		HTTP: image.Spec.DataSource.HTTP.DeepCopy(),
	}
	status := imageimport.Status{
		ImageStatus: *image.Status.ImageStatus.DeepCopy(),
		Phase:       image.Status.Phase,
		RegistryURL: image.Status.Target.RegistryURL,
	}
	return source, status
}

func write(image *v1alpha2.ClusterVirtualImage, status imageimport.Status) {
	image.Status.ImageStatus = status.ImageStatus
	image.Status.Phase = status.Phase
	image.Status.Target.RegistryURL = status.RegistryURL
}
