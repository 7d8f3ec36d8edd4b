// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// removeOrphans deletes importers of images that are gone: the API server may delete
// an object in the same moment in which it accepts the finalizer, and somebody may
// have taken the finalizer away. UID is that of the image that has the name now, or
// empty.
func (r *Reconciler[T]) removeOrphans(ctx context.Context, image types.NamespacedName, uid types.UID) error {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.MatchingFields{r.prefix + indexOwners: image.String()}); err != nil {
		return fmt.Errorf("listing the importers of images that are gone: %w", err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		owner, ok := importerpod.Owner(pod)
		if !ok || owner.UID == string(uid) || pod.DeletionTimestamp != nil {
			continue
		}
		for _, object := range orphansOf(pod, types.UID(owner.UID)) {
			if err := r.Client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("deleting %T %s of an image that is gone: %w", object, client.ObjectKeyFromObject(object), err)
			}
		}
	}
	return nil
}

// orphansOf are what goes with an importer. It goes last: it is what they are found by.
func orphansOf(pod *corev1.Pod, uid types.UID) []client.Object {
	out := []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}}
	if _, upload := pod.Annotations[importerpod.AnnotationUploadExpiry]; upload {
		way := metav1.ObjectMeta{Namespace: pod.Namespace, Name: importerpod.UploadName(uid)}
		out = append(out, &corev1.Service{ObjectMeta: way}, &networkingv1.Ingress{ObjectMeta: way})
	}
	return append(out, shared.Reference(pod, &corev1.Pod{}))
}
