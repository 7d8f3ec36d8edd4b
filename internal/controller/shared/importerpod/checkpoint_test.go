// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// queue remembers what was added to it.
type queue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	added []reconcile.Request
}

func (q *queue) Add(request reconcile.Request) { q.added = append(q.added, request) }

func TestCheckpointsAreWrittenRarely(t *testing.T) {
	writes := 0
	secret := Secret(order(httpSource()))
	c := fake.NewClientBuilder().WithObjects(secret).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			writes++
			return c.Patch(ctx, o, p, opts...)
		},
	}).Build()
	clock := clocktesting.NewFakePassiveClock(now)
	checkpoints := &Checkpoints{Client: c, Clock: clock}
	key := client.ObjectKeyFromObject(secret)
	for _, step := range []struct {
		at      time.Duration
		content string
		wait    time.Duration
		writes  int
	}{
		{0, "", 0, 0},
		{0, "one", 0, 1},
		{time.Second, "one", 0, 1},
		{1500 * time.Millisecond, "two", 500 * time.Millisecond, 1},
		{2 * time.Second, "three", 0, 2},
		{60 * time.Second, "three", 0, 2},
		{61 * time.Second, "four", 0, 3},
		{62 * time.Second, "five", time.Second, 3},
	} {
		clock.SetTime(now.Add(step.at))
		wait, err := checkpoints.Save(t.Context(), key, []byte(step.content))
		if err != nil || wait != step.wait || writes != step.writes {
			t.Errorf("%s after %s: wait %s, %d writes, %v", step.content, step.at, wait, writes, err)
		}
	}
	stored := &corev1.Secret{}
	if err := c.Get(t.Context(), key, stored); err != nil {
		t.Fatal(err)
	}
	if string(stored.Data["checkpoint"]) != "four" || string(stored.Data["token"]) != "secret words" {
		t.Errorf("secret: %v", stored.Data)
	}
	checkpoints.Forget(key)
	if _, err := checkpoints.Save(t.Context(), key, []byte("four")); err != nil || writes != 4 {
		t.Errorf("a forgotten transfer: %d writes, %v", writes, err)
	}
}

func TestCheckpointOfASecretThatIsGone(t *testing.T) {
	checkpoints := &Checkpoints{Client: fake.NewClientBuilder().Build(), Clock: clocktesting.NewFakePassiveClock(now)}
	key := client.ObjectKey{Namespace: "d8-virtualization", Name: "gone"}
	if _, err := checkpoints.Save(t.Context(), key, []byte("one")); err != nil {
		t.Error(err)
	}
	checkpoints.Client = fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return errors.New("the server is away")
		},
	}).Build()
	checkpoints.Forget(key)
	_, err := checkpoints.Save(t.Context(), key, []byte("one"))
	if err == nil || !strings.Contains(err.Error(), "d8-virtualization/gone: the server is away") {
		t.Errorf("error: %v", err)
	}
}
