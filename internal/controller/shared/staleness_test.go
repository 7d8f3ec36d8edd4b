// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// A cache that lags behind makes the controller wait, not write.
func TestOwnWriteThatTheCacheDoesNotShowYet(t *testing.T) {
	owner := pod("owner")
	w := newWorld(t, owner)
	live, ok := w.executor.Client.(client.WithWatch)
	if !ok {
		t.Fatal("the fake client cannot watch")
	}
	stale := &corev1.Pod{}
	if err := live.Get(context.Background(), client.ObjectKeyFromObject(owner), stale); err != nil {
		t.Fatal(err)
	}
	lagging := true
	r := &Reconciler[*corev1.Pod, *corev1.Pod]{
		Executor: Executor{Recorder: w.recorder, Client: interceptor.NewClient(live, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
				if lagging {
					stale.DeepCopyInto(object.(*corev1.Pod))
					return nil
				}
				return c.Get(ctx, key, object, opts...)
			},
		})},
		New:     func() *corev1.Pod { return &corev1.Pod{} },
		Observe: func(_ context.Context, p *corev1.Pod) (*corev1.Pod, error) { return p, nil },
		Decide: func(p *corev1.Pod) Plan[*corev1.Pod] {
			want := p.DeepCopy()
			want.Status.Message = "decided"
			return Plan[*corev1.Pod]{Status: want}
		},
	}
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(owner)}
	pass := func() time.Duration {
		result, err := r.Reconcile(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter
	}
	pass()
	w.expectWrites(t, "patch-status owner")
	if after := pass(); after != 50*time.Millisecond {
		t.Errorf("looks again after %s", after)
	}
	w.expectWrites(t)
	lagging = false
	if after := pass(); after != 0 {
		t.Errorf("with a cache that caught up, looks again after %s", after)
	}
	w.expectWrites(t)
}
