// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package controllertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// labeller is the smallest controller: it labels the ConfigMaps that ask for it.
type labeller struct{ client client.Client }

func (l labeller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	config := &corev1.ConfigMap{}
	if err := l.client.Get(ctx, request.NamespacedName, config); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if config.Data["label"] == config.Labels["label"] {
		return reconcile.Result{}, nil
	}
	before := config.DeepCopy()
	config.Labels = map[string]string{"label": config.Data["label"]}
	return reconcile.Result{}, l.client.Patch(ctx, config, client.MergeFrom(before))
}

func startLabeller(t *testing.T) (*Cluster, string) {
	t.Helper()
	cluster := Start(t, apiserver.Scheme(), func(mgr ctrl.Manager) error {
		return ctrl.NewControllerManagedBy(mgr).For(&corev1.ConfigMap{}).Complete(labeller{mgr.GetClient()})
	})
	return cluster, apiserver.Namespace(t, cluster.Client)
}

func settings(namespace, label string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "settings"}, Data: map[string]string{"label": label}}
}

func hasLabel(want string) func(*corev1.ConfigMap) bool {
	return func(c *corev1.ConfigMap) bool { return c.Labels["label"] == want }
}

func TestWritesOfControllersAreCounted(t *testing.T) {
	cluster, namespace := startLabeller(t)
	config := settings(namespace, "a")
	if err := cluster.Client.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	Wait(t, cluster.Client, config, "its label", hasLabel("a"))
	if got := cluster.Writes(); !slices.Equal(got, []string{"patch ConfigMap"}) {
		t.Errorf("writes %q: the test's own must not be among them", got)
	}
	if elsewhere := cluster.Writes("elsewhere"); len(elsewhere) != 0 {
		t.Errorf("writes in another namespace: %q", elsewhere)
	}
	for _, place := range []string{namespace, config.Name} {
		if here := cluster.Writes(place); len(here) != 1 {
			t.Errorf("writes at %s: %q", place, here)
		}
	}
	cluster.StaysQuiet(50*time.Millisecond, namespace)

	Update(t, cluster.Client, config, func(c *corev1.ConfigMap) { c.Data["label"] = "b" })
	Wait(t, cluster.Client, config, "its second label", hasLabel("b"))
	if err := cluster.Client.Delete(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	WaitGone(t, cluster.Client, config)
}

// A crash comes once, and the controller's next try does what was lost.
func TestCrashAt(t *testing.T) {
	cluster, namespace := startLabeller(t)
	cluster.CrashAt(1)
	config := settings(namespace, "a")
	if err := cluster.Client.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	Wait(t, cluster.Client, config, "its label", hasLabel("a"))
	if got := cluster.Writes(); len(got) != 2 {
		t.Errorf("writes %q, want one that crashed and one that did it", got)
	}
}

// The write after an even number of others is lost, the next one is only unknown
// to have been done.
func TestCrashComesBeforeAndAfterTheWrite(t *testing.T) {
	cluster := &Cluster{crash: func(string) bool { return true }}
	done := 0
	for range 4 {
		if err := cluster.write("create", &corev1.Pod{}, func() error { done++; return nil }); !errors.Is(err, errCrash) {
			t.Errorf("got %v", err)
		}
	}
	if done != 2 {
		t.Errorf("%d of 4 writes were done, want 2", done)
	}
	refused := errors.New("refused")
	cluster = &Cluster{}
	if err := cluster.write("create", &corev1.Pod{}, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("the server's refusal became %v", err)
	}
}

func TestKindOf(t *testing.T) {
	untyped := &unstructured.Unstructured{}
	untyped.SetKind("KubeVirt")
	for want, object := range map[string]any{
		"ConfigMap": &corev1.ConfigMap{}, "KubeVirt": untyped, "Unstructured": &unstructured.Unstructured{},
	} {
		if got := kindOf(object); got != want {
			t.Errorf("%T: %q, want %q", object, got, want)
		}
	}
}

// loser is a test that ends when it fails, without failing the real one.
type loser struct {
	testing.TB
	said string
}

func (l *loser) Helper() {}
func (l *loser) Fatal(args ...any) {
	l.said = fmt.Sprint(args...)
	runtime.Goexit()
}
func (l *loser) Errorf(format string, args ...any) { l.said = fmt.Sprintf(format, args...) }

// lose returns what a test said that was given up.
func lose(t *testing.T, body func(testing.TB)) string {
	t.Helper()
	inner := &loser{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		body(inner)
	}()
	<-done
	return inner.said
}

func TestUpdateGivesUpWhereNothingWouldHelp(t *testing.T) {
	c := apiserver.Client(t)
	namespace := apiserver.Namespace(t, c)
	said := lose(t, func(t testing.TB) { Update(t, c, settings(namespace, ""), func(*corev1.ConfigMap) {}) })
	if !strings.Contains(said, `configmaps "settings" not found`) {
		t.Errorf("a missing object: %q", said)
	}
	config := settings(namespace, "a")
	if err := c.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	said = lose(t, func(t testing.TB) {
		Update(t, c, config, func(c *corev1.ConfigMap) { c.Labels = map[string]string{"label": "not a label!"} })
	})
	if !strings.Contains(said, "updating *v1.ConfigMap settings") || !strings.Contains(said, "metadata.labels") {
		t.Errorf("a refused change: %q", said)
	}
}

func TestUpdateTriesAgainAfterAConflict(t *testing.T) {
	c := apiserver.Client(t)
	config := settings(apiserver.Namespace(t, c), "a")
	if err := c.Create(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	tries := 0
	Update(t, c, config, func(mine *corev1.ConfigMap) {
		if tries++; tries == 1 {
			theirs := mine.DeepCopy()
			theirs.Data["theirs"] = "kept"
			if err := c.Update(t.Context(), theirs); err != nil {
				t.Fatal(err)
			}
		}
		mine.Data["mine"] = "kept"
	})
	if tries != 2 || config.Data["theirs"] != "kept" || config.Data["mine"] != "kept" {
		t.Errorf("after %d tries: %v", tries, config.Data)
	}
}

func TestStaysQuietNamesWhatWasWritten(t *testing.T) {
	said := lose(t, func(inner testing.TB) {
		cluster := &Cluster{t: inner}
		time.AfterFunc(5*time.Millisecond, func() {
			_ = cluster.write("patch", &corev1.Pod{}, func() error { return nil })
		})
		cluster.StaysQuiet(100 * time.Millisecond)
	})
	if said != `written in the steady state: ["patch Pod"]` {
		t.Errorf("said %q", said)
	}
}

func TestRegistryFailsAsOrdered(t *testing.T) {
	registry := &Registry{}
	down := errors.New("down")
	registry.Fail(down, 2)
	for i, want := range []error{down, down, nil} {
		if err := registry.Delete(t.Context(), "dvcr.example/vi/team/a:1"); !errors.Is(err, want) {
			t.Errorf("deletion %d: %v, want %v", i, err, want)
		}
	}
	if got := registry.Deleted(); registry.Attempts() != 3 || len(got) != 1 || got[0] != "dvcr.example/vi/team/a:1" {
		t.Errorf("%d attempts, deleted %q", registry.Attempts(), got)
	}
}
