// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func ownDaemonSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "vm-router"}}
}

func newRetirement(t *testing.T, objects ...client.Object) *Retirement {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	byName := func(o client.Object) []string { return []string{o.GetName()} }
	watched := make(chan struct{}, 10)
	r := &Retirement{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithIndex(&appsv1.DaemonSet{}, "metadata.name", byName).
			WithInterceptorFuncs(interceptor.Funcs{
				Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
					defer func() { watched <- struct{}{} }()
					return c.Watch(ctx, list, opts...)
				},
			}).Build(),
		DaemonSet: types.NamespacedName{Namespace: "d8-virtualization", Name: "vm-router"},
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-watched // this server does not tell of what was before
	return r
}

// A pod that is replaced must leave the routes where they are; the last one of a
// module that was disabled must not.
func TestRetirement(t *testing.T) {
	r := newRetirement(t, ownDaemonSet())
	ctx := context.Background()
	if err := r.Client.Delete(ctx, ownDaemonSet()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end was not seen", r.Due)
	if err := r.Client.Create(ctx, ownDaemonSet()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the return was not seen", func() bool { return !r.Due() })
}

// When the pods go first, the DaemonSet is still there, marked.
func TestRetirementInTheForeground(t *testing.T) {
	r := &Retirement{}
	now := metav1.Now()
	for _, tc := range []struct {
		object any
		due    bool
	}{
		{&appsv1.DaemonSet{}, false},
		{&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, true},
		{"nonsense", true}, // says nothing
		{&appsv1.DaemonSet{}, false},
	} {
		if r.note(tc.object); r.Due() != tc.due {
			t.Errorf("%v: due is %v", tc.object, r.Due())
		}
	}
}

// What was never seen is not gone: without rights or without a connection nothing is
// taken away.
func TestRetirementNeedsEvidence(t *testing.T) {
	r := newRetirement(t)
	if r.Due() {
		t.Error("due without ever having seen the DaemonSet")
	}
}
