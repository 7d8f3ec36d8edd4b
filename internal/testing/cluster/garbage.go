// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// collectGarbage deletes what has owners of which none is there any more.
func (s *script) collectGarbage(ctx context.Context) error {
	for _, list := range s.garbage {
		if err := s.client.List(ctx, list); err != nil {
			return err
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			dependent, ok := item.(client.Object)
			if !ok || dependent.GetDeletionTimestamp() != nil || len(dependent.GetOwnerReferences()) == 0 {
				return nil
			}
			return outdated(s.collect(ctx, dependent))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// collect deletes the object unless one of its owners is there. Only the API server
// itself is believed that an owner is gone: a cache may not know it yet.
func (s *script) collect(ctx context.Context, dependent client.Object) error {
	for _, reader := range []client.Reader{s.client, s.live} {
		for _, owner := range dependent.GetOwnerReferences() {
			if there, err := s.isThere(ctx, reader, dependent.GetNamespace(), owner); err != nil || there {
				return err
			}
		}
	}
	uid := dependent.GetUID()
	return s.client.Delete(ctx, dependent, client.Preconditions{UID: &uid})
}

func (s *script) isThere(ctx context.Context, reader client.Reader, namespace string, ref metav1.OwnerReference) (bool, error) {
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	mapping, err := s.client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return false, err
	}
	owner := &metav1.PartialObjectMetadata{}
	owner.SetGroupVersionKind(kind)
	key := client.ObjectKey{Name: ref.Name}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		key.Namespace = namespace
	}
	err = reader.Get(ctx, key, owner)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && owner.UID == ref.UID, err
}
