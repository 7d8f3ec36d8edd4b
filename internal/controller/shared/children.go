// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// AnnotationTokenExpiry is on a Secret with a registry token and tells when the
// token ends, so that the Secret's contents need not be read back.
const AnnotationTokenExpiry = "virtualization.deckhouse.io/token-expires-at"

// ChildLabels are on everything that the module makes.
func ChildLabels() map[string]string {
	return map[string]string{"heritage": "deckhouse", "module": "virtualization"}
}

// OwnerReference makes an object of ours the controller of a child. A cluster
// object may own children in a namespace, a namespaced one only in its own.
func OwnerReference(kind, name string, uid types.UID) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion:         v1alpha2.SchemeGroupVersion.String(),
		Kind:               kind,
		Name:               name,
		UID:                uid,
		Controller:         ptr.To(true),
		BlockOwnerDeletion: ptr.To(true),
	}
}

// IsOwnedBy tells whether the object with the uid is among the owners.
func IsOwnedBy(child metav1.Object, uid types.UID) bool {
	for _, owner := range child.GetOwnerReferences() {
		if owner.UID == uid {
			return true
		}
	}
	return false
}

// Get reads an object and tells whether it is there; that it is not is no error.
func Get(ctx context.Context, reader client.Reader, key client.ObjectKey, object client.Object) (bool, error) {
	err := reader.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %T %s: %w", object, key, err)
	}
	return true, nil
}

// Find is Get for who wants the object or nil: there being none is no error.
func Find[T client.Object](ctx context.Context, reader client.Reader, key client.ObjectKey, object T) (T, error) {
	var none T
	found, err := Get(ctx, reader, key, object)
	if err != nil || !found {
		return none, err
	}
	return object, nil
}

// Reference fills out with just enough to delete the observed object and no
// namesake of it.
func Reference(observed metav1.Object, out client.Object) client.Object {
	out.SetNamespace(observed.GetNamespace())
	out.SetName(observed.GetName())
	out.SetUID(observed.GetUID())
	out.SetDeletionTimestamp(observed.GetDeletionTimestamp())
	return out
}

// CoreMetadata makes an empty object of a core kind of which only the metadata is
// read, which keeps the contents of Secrets out of the controller's memory.
func CoreMetadata(kind string) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
	return object
}

// TokenExpiry reads AnnotationTokenExpiry. A Secret that does not say is as good
// as expired.
func TokenExpiry(secret metav1.Object) time.Time {
	at, err := time.Parse(time.RFC3339, secret.GetAnnotations()[AnnotationTokenExpiry])
	if err != nil {
		return time.Time{}
	}
	return at
}

// FormatTokenExpiry is the value of AnnotationTokenExpiry.
func FormatTokenExpiry(at time.Time) string { return at.UTC().Format(time.RFC3339) }
