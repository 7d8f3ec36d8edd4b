// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"errors"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestTolerations(t *testing.T) {
	node := func(name string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Taints: taints}}
	}
	reader := fake.NewClientBuilder().WithObjects(
		node("plain"),
		node("machines",
			corev1.Taint{Key: "dedicated", Value: "machines", Effect: corev1.TaintEffectNoExecute},
			corev1.Taint{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute},
			corev1.Taint{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}),
	).Build()
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        []corev1.Toleration
	}{
		"no node is needed": {},
		"without taints":    {annotations: map[string]string{"volume.kubernetes.io/selected-node": "plain"}},
		"gone":              {annotations: map[string]string{"volume.kubernetes.io/selected-node": "gone"}},
		"set aside": {
			annotations: map[string]string{"volume.kubernetes.io/selected-node": "machines"},
			want: []corev1.Toleration{
				{Key: "dedicated", Operator: "Equal", Value: "machines", Effect: "NoExecute"},
				{Key: "gpu", Operator: "Equal", Effect: "NoSchedule"},
			},
		},
	} {
		got, err := Tolerations(t.Context(), reader, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}})
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, tc.want)
		}
	}
	broken := errors.New("the API server is away")
	failing := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return broken
		},
	})
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{AnnotationSelectedNode: "plain"}}}
	if _, err := Tolerations(t.Context(), failing, claim); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
