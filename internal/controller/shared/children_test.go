// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestOwnerReference(t *testing.T) {
	owner := OwnerReference("VirtualDisk", "root", "1-2-3")
	if owner.APIVersion != "virtualization.deckhouse.io/v1alpha2" || owner.Kind != "VirtualDisk" || owner.Name != "root" || owner.UID != "1-2-3" {
		t.Errorf("owner: %+v", owner)
	}
	if !*owner.Controller || !*owner.BlockOwnerDeletion {
		t.Error("the owner must be the controller and hold its deletion")
	}
	child := pod("child")
	child.OwnerReferences = []metav1.OwnerReference{{UID: "other"}, owner}
	if !IsOwnedBy(child, "1-2-3") || IsOwnedBy(child, "3-2-1") || IsOwnedBy(pod("free"), "1-2-3") {
		t.Error("ownership is read wrong")
	}
}

func TestReferenceNamesOneObjectOnly(t *testing.T) {
	observed := pod("child")
	observed.UID = "1-2-3"
	observed.DeletionTimestamp = &metav1.Time{Time: time.Unix(5, 0)}
	observed.Spec.NodeName = "node-1"
	got := Reference(observed, &corev1.Pod{}).(*corev1.Pod)
	if got.Namespace != "team" || got.Name != "child" || got.UID != "1-2-3" || got.DeletionTimestamp == nil || got.Spec.NodeName != "" {
		t.Errorf("reference: %+v", got)
	}
}

func TestGet(t *testing.T) {
	w := newWorld(t, pod("there"))
	ctx := t.Context()
	if found, err := Get(ctx, w.executor.Client, client.ObjectKey{Namespace: "team", Name: "there"}, &corev1.Pod{}); err != nil || !found {
		t.Errorf("found %t, %v", found, err)
	}
	if found, err := Get(ctx, w.executor.Client, client.ObjectKey{Namespace: "team", Name: "gone"}, &corev1.Pod{}); err != nil || found {
		t.Errorf("found %t, %v", found, err)
	}
	broken := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return errors.New("the server is away")
		},
	}).Build()
	_, err := Get(ctx, broken, client.ObjectKey{Namespace: "team", Name: "there"}, &corev1.Pod{})
	if err == nil || err.Error() != "reading *v1.Pod team/there: the server is away" {
		t.Errorf("error: %v", err)
	}
}

func TestTokenExpiry(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	secret := &corev1.Secret{}
	if !TokenExpiry(secret).IsZero() {
		t.Error("a Secret without the annotation must count as expired")
	}
	secret.Annotations = map[string]string{"virtualization.deckhouse.io/token-expires-at": "soon"}
	if !TokenExpiry(secret).IsZero() {
		t.Error("an unreadable annotation must count as expired")
	}
	secret.Annotations["virtualization.deckhouse.io/token-expires-at"] = FormatTokenExpiry(at.In(time.FixedZone("east", 3600)))
	if got := TokenExpiry(secret); !got.Equal(at) {
		t.Errorf("expiry: got %s, want %s", got, at)
	}
}

func TestCoreMetadata(t *testing.T) {
	if got := CoreMetadata("Secret").GroupVersionKind().String(); got != "/v1, Kind=Secret" {
		t.Errorf("kind: %s", got)
	}
	if got := ChildLabels(); len(got) != 2 || got["heritage"] != "deckhouse" || got["module"] != "virtualization" {
		t.Errorf("labels: %v", got)
	}
}

func TestRefusalOf(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	quota := apierrors.NewForbidden(pods, "importer", errors.New("exceeded quota: team, requested: pods=1, used: pods=5, limited: pods=5"))
	policy := apierrors.NewForbidden(pods, "importer", errors.New("violates PodSecurity"))
	leaving := apierrors.NewForbidden(pods, "importer", errors.New("namespace is being terminated"))
	leaving.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	cases := []struct {
		name  string
		err   error
		want  bool
		quota bool
	}{
		{name: "success"},
		{name: "conflict", err: apierrors.NewConflict(pods, "importer", errors.New("changed"))},
		{name: "unreachable server", err: errors.New("connection refused")},
		{name: "namespace goes away", err: leaving},
		{name: "quota", err: fmt.Errorf("creating: %w", quota), want: true, quota: true},
		{name: "policy", err: fmt.Errorf("creating: %w", policy), want: true},
		{name: "invalid", err: apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "importer", nil), want: true},
		{name: "webhook", err: apierrors.NewBadRequest("admission webhook denied the request"), want: true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := RefusalOf(tc.err)
			if (got != nil) != tc.want {
				t.Fatalf("refusal: got %+v", got)
			}
			if got != nil && (got.Quota != tc.quota || got.Message == "") {
				t.Errorf("refusal: got %+v", got)
			}
		})
	}
}
