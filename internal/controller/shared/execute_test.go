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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const testFinalizer = "example.org/cleanup"

// world is a fake API server that records each write as "verb kind/name".
type world struct {
	executor Executor
	recorder *record.FakeRecorder
	writes   []string
	// failOn makes the write with this name fail.
	failOn string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	w := &world{recorder: record.NewFakeRecorder(10)}
	note := func(verb, name string) error {
		entry := verb + " " + name
		w.writes = append(w.writes, entry)
		if entry == w.failOn {
			return errors.New("the server is away")
		}
		return nil
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&corev1.Pod{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if err := note("create", o.GetName()); err != nil {
					return err
				}
				return c.Create(ctx, o, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				if err := note("delete", o.GetName()); err != nil {
					return err
				}
				return c.Delete(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if err := note("patch", o.GetName()); err != nil {
					return err
				}
				return c.Patch(ctx, o, p, opts...)
			},
			Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				if err := note("apply", "child"); err != nil {
					return err
				}
				return c.Apply(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if err := note("patch-"+sub, o.GetName()); err != nil {
					return err
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		}).Build()
	w.executor = Executor{Client: c, Recorder: w.recorder}
	return w
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}, Data: map[string]string{"key": value}}
}

// reconcile runs one pass of decide on the pod "owner".
func (w *world) reconcile(t *testing.T, decide func(*corev1.Pod) Plan[*corev1.Pod]) (ctrl.Result, error) {
	t.Helper()
	r := &Reconciler[*corev1.Pod, *corev1.Pod]{
		Executor: w.executor,
		New:      func() *corev1.Pod { return &corev1.Pod{} },
		Observe:  func(_ context.Context, p *corev1.Pod) (*corev1.Pod, error) { return p, nil },
		Decide:   decide,
	}
	return r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Namespace: "team", Name: "owner"}})
}

func (w *world) expectWrites(t *testing.T, want ...string) {
	t.Helper()
	if len(w.writes) != len(want) {
		t.Fatalf("writes: got %q, want %q", w.writes, want)
	}
	for i := range want {
		if w.writes[i] != want[i] {
			t.Fatalf("write %d: got %q, want %q (all: %q)", i, w.writes[i], want[i], w.writes)
		}
	}
	w.writes = nil
}

func TestExecuteWritesInTheDocumentedOrder(t *testing.T) {
	w := newWorld(t, pod("owner"), configMap("old", "x"))
	acted := false
	_, err := w.reconcile(t, func(observed *corev1.Pod) Plan[*corev1.Pod] {
		status := observed.DeepCopy()
		status.Status.Phase = corev1.PodRunning
		return Plan[*corev1.Pod]{
			Finalizer: FinalizerAdd, FinalizerName: testFinalizer,
			Delete:  []client.Object{configMap("old", "")},
			Apply:   []Child{{Want: configMap("child", "1")}},
			Create:  []client.Object{configMap("once", "1")},
			Actions: []Action{{Name: "acting", Run: func(context.Context) error { acted = true; return nil }}},
			Status:  status,
			Events:  []Event{{Type: corev1.EventTypeNormal, Reason: "Started", Message: "it runs"}},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t, "patch owner", "delete old", "apply child", "create once", "patch-status owner")
	if !acted {
		t.Error("the action did not run")
	}
	if got := <-w.recorder.Events; got != "Normal Started it runs" {
		t.Errorf("event: got %q", got)
	}
	stored := &corev1.Pod{}
	if err := w.executor.Client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "owner"}, stored); err != nil {
		t.Fatal(err)
	}
	if stored.Status.Phase != corev1.PodRunning || len(stored.Finalizers) != 1 || stored.Finalizers[0] != testFinalizer {
		t.Errorf("stored: phase %q, finalizers %q", stored.Status.Phase, stored.Finalizers)
	}
}

func TestExecuteWritesNothingInSteadyState(t *testing.T) {
	w := newWorld(t, pod("owner"))
	decide := func(observed *corev1.Pod) Plan[*corev1.Pod] {
		have := &corev1.ConfigMap{}
		child := Child{Want: configMap("child", "1")}
		if err := w.executor.Client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "child"}, have); err == nil {
			child.Have = have
		}
		status := observed.DeepCopy()
		status.Status.Message = "fine"
		return Plan[*corev1.Pod]{Finalizer: FinalizerAdd, FinalizerName: testFinalizer, Apply: []Child{child}, Status: status}
	}
	if _, err := w.reconcile(t, decide); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t, "patch owner", "apply child", "patch-status owner")
	if _, err := w.reconcile(t, decide); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t)
}

func TestApplyRestoresWhatSomebodyElseChanged(t *testing.T) {
	w := newWorld(t, pod("owner"))
	decide := func(*corev1.Pod) Plan[*corev1.Pod] {
		have := &corev1.ConfigMap{}
		child := Child{Want: configMap("child", "ours")}
		if err := w.executor.Client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "child"}, have); err == nil {
			child.Have = have
		}
		return Plan[*corev1.Pod]{Apply: []Child{child}}
	}
	if _, err := w.reconcile(t, decide); err != nil {
		t.Fatal(err)
	}
	stored := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: "team", Name: "child"}
	if err := w.executor.Client.Get(context.Background(), key, stored); err != nil {
		t.Fatal(err)
	}
	stored.Data["key"] = "theirs"
	if err := w.executor.Client.Update(context.Background(), stored); err != nil {
		t.Fatal(err)
	}
	w.writes = nil
	if _, err := w.reconcile(t, decide); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t, "apply child")
	if err := w.executor.Client.Get(context.Background(), key, stored); err != nil {
		t.Fatal(err)
	}
	if stored.Data["key"] != "ours" {
		t.Errorf("data: got %q, want %q", stored.Data["key"], "ours")
	}
}

func TestFinalizerGoesLastAndOnlyWhenActionsSucceeded(t *testing.T) {
	owner := pod("owner")
	owner.Finalizers = []string{testFinalizer, "example.org/other"}
	w := newWorld(t, owner)
	broken := true
	decide := func(observed *corev1.Pod) Plan[*corev1.Pod] {
		status := observed.DeepCopy()
		status.Status.Message = "going"
		return Plan[*corev1.Pod]{
			Finalizer: FinalizerRemove, FinalizerName: testFinalizer, Status: status,
			Actions: []Action{{Name: "emptying the registry", Run: func(context.Context) error {
				if broken {
					return errors.New("connection refused")
				}
				return nil
			}}},
		}
	}
	_, err := w.reconcile(t, decide)
	if err == nil || err.Error() != "emptying the registry: connection refused" {
		t.Fatalf("error: got %v", err)
	}
	w.expectWrites(t, "patch-status owner")
	broken = false
	if _, err := w.reconcile(t, decide); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t, "patch owner")
}

func TestDeletionTakesDependentsAlongUnlessTheyAreToStay(t *testing.T) {
	w := newWorld(t, pod("owner"), configMap("parent", ""), configMap("other", ""))
	policies := map[string]metav1.DeletionPropagation{}
	w.executor.Client = interceptor.NewClient(w.executor.Client.(client.WithWatch), interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			options := &client.DeleteOptions{}
			options.ApplyOptions(opts)
			policies[o.GetName()] = *options.PropagationPolicy
			return c.Delete(ctx, o, opts...)
		},
	})
	_, err := w.reconcile(t, func(*corev1.Pod) Plan[*corev1.Pod] {
		return Plan[*corev1.Pod]{Delete: []client.Object{Orphan(configMap("parent", "")), configMap("other", "")}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if policies["parent"] != "Orphan" || policies["other"] != "Background" {
		t.Errorf("policies: %v", policies)
	}
}

// A Pod that its node does not let go is let go by the server, and no other.
func TestExecuteDeletesAtOnce(t *testing.T) {
	graces := map[string]int64{}
	w := newWorld(t, pod("owner"))
	w.executor.Client = interceptor.NewClient(w.executor.Client.(client.WithWatch), interceptor.Funcs{
		Delete: func(_ context.Context, _ client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			options := client.DeleteOptions{}
			options.ApplyOptions(opts)
			graces[o.GetName()] = ptr.Deref(options.GracePeriodSeconds, -1)
			return nil
		},
	})
	going := func(name string) client.Object {
		out := pod(name)
		out.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		return out
	}
	_, err := w.reconcile(t, func(*corev1.Pod) Plan[*corev1.Pod] {
		return Plan[*corev1.Pod]{Delete: []client.Object{going("patient"), AtOnce(going("hurried")), pod("usual")}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(graces) != 2 || graces["hurried"] != 0 || graces["usual"] != -1 {
		t.Errorf("graces: %v", graces)
	}
}

func TestExecuteToleratesWhatIsDoneAlready(t *testing.T) {
	w := newWorld(t, pod("owner"), configMap("once", "theirs"))
	_, err := w.reconcile(t, func(*corev1.Pod) Plan[*corev1.Pod] {
		return Plan[*corev1.Pod]{
			Delete: []client.Object{configMap("gone", "")},
			Create: []client.Object{configMap("once", "ours")},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	stored := &corev1.ConfigMap{}
	if err := w.executor.Client.Get(context.Background(), client.ObjectKey{Namespace: "team", Name: "once"}, stored); err != nil {
		t.Fatal(err)
	}
	if stored.Data["key"] != "theirs" {
		t.Errorf("an existing object was changed: %q", stored.Data["key"])
	}
}

func TestACrashAtEachWriteEndsInTheSameState(t *testing.T) {
	decideFor := func() func(*corev1.Pod) Plan[*corev1.Pod] {
		return func(observed *corev1.Pod) Plan[*corev1.Pod] {
			status := observed.DeepCopy()
			status.Status.Phase = corev1.PodRunning
			return Plan[*corev1.Pod]{
				Finalizer: FinalizerAdd, FinalizerName: testFinalizer,
				Delete: []client.Object{configMap("old", "")}, Apply: []Child{{Want: configMap("child", "1")}},
				Create: []client.Object{configMap("once", "1")}, Status: status,
			}
		}
	}
	for _, failing := range []string{"patch owner", "delete old", "apply child", "create once", "patch-status owner"} {
		t.Run(failing, func(t *testing.T) {
			w := newWorld(t, pod("owner"), configMap("old", "x"))
			w.failOn = failing
			if _, err := w.reconcile(t, decideFor()); err == nil {
				t.Fatal("the failing write was not reported")
			}
			w.failOn = ""
			if _, err := w.reconcile(t, decideFor()); err != nil {
				t.Fatal(err)
			}
			maps := &corev1.ConfigMapList{}
			if err := w.executor.Client.List(context.Background(), maps); err != nil {
				t.Fatal(err)
			}
			if len(maps.Items) != 2 || maps.Items[0].Name != "child" || maps.Items[1].Name != "once" {
				t.Errorf("children: got %v", maps.Items)
			}
		})
	}
}

func TestReconcileOfAMissingObjectDoesNothing(t *testing.T) {
	w := newWorld(t)
	res, err := w.reconcile(t, func(*corev1.Pod) Plan[*corev1.Pod] {
		t.Fatal("decided about nothing")
		return Plan[*corev1.Pod]{}
	})
	if err != nil || !res.IsZero() {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestResult(t *testing.T) {
	plain := errors.New("boom")
	leaving := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "importer", plain)
	leaving.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	cases := []struct {
		name     string
		err      error
		want     ctrl.Result
		terminal bool
		wantErr  bool
	}{
		{name: "none"},
		{name: "stalled is not retried", err: Stalled("BadURL", plain), terminal: true, wantErr: true},
		{name: "waiting comes back in time", err: Waiting("registry starts", 7*time.Second), want: ctrl.Result{RequeueAfter: 7 * time.Second}},
		{
			name: "a conflict is retried quietly",
			err:  apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "owner", plain),
			want: ctrl.Result{RequeueAfter: 200 * time.Millisecond},
		},
		{
			name: "a namespace that goes takes its objects with it",
			err:  fmt.Errorf("creating: %w", leaving),
			want: ctrl.Result{RequeueAfter: 10 * time.Second},
		},
		{name: "anything else uses the queue's back-off", err: plain, wantErr: true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := result(ctrl.Result{}, tc.err)
			if got != tc.want || (err != nil) != tc.wantErr {
				t.Fatalf("got %v, %v", got, err)
			}
			if errors.Is(err, reconcile.TerminalError(nil)) != tc.terminal {
				t.Errorf("terminal: got %v, want %v", !tc.terminal, tc.terminal)
			}
			if tc.wantErr && !errors.Is(err, plain) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
}

func TestApplyComparesWithWhatAServerReturns(t *testing.T) {
	want := pod("child")
	want.Spec.Containers = []corev1.Container{{Name: "importer", Image: "importer"}}
	have := want.DeepCopy()
	// What every server adds.
	have.UID, have.ResourceVersion, have.Generation = "u-1", "7", 1
	have.CreationTimestamp = metav1.NewTime(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	have.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
	have.Spec.NodeName = "node-1"

	w := newWorld(t)
	converted, err := w.executor.toUnstructured(want)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := contentHash(converted)
	if err != nil {
		t.Fatal(err)
	}
	have.Annotations = map[string]string{AnnotationAppliedHash: hash}
	if err := w.executor.apply(context.Background(), Child{Want: want, Have: have}); err != nil {
		t.Fatal(err)
	}
	w.expectWrites(t)
}

func TestIsSubset(t *testing.T) {
	type m = map[string]any
	cases := []struct {
		name       string
		want, have any
		equal      bool
	}{
		{"equal scalars", int64(1), int64(1), true},
		{"other scalar", "a", "b", false},
		{"added field", m{"a": "1"}, m{"a": "1", "b": "2"}, true},
		{"missing field", m{"a": "1"}, m{"b": "2"}, false},
		{"nested change", m{"a": m{"b": "1"}}, m{"a": m{"b": "2"}}, false},
		{"empty map left out", m{"a": m{}}, m{}, true},
		{"longer list", []any{"a"}, []any{"a", "b"}, false},
		{"list order matters", []any{"a", "b"}, []any{"b", "a"}, false},
		{"list of maps with defaults", []any{m{"a": "1"}}, []any{m{"a": "1", "d": "x"}}, true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := isSubset(tc.want, tc.have); got != tc.equal {
				t.Errorf("got %v, want %v", got, tc.equal)
			}
		})
	}
}
