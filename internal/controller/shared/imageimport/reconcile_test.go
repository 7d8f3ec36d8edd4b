// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// issuer makes tokens that can be read.
type issuer struct{ err error }

func (i issuer) Issue(subject string, access []token.Access, ttl time.Duration) (string, error) {
	return fmt.Sprintf("%s opens %v for %s", subject, access, ttl), i.err
}

// registry fails until it is mended.
type registry struct {
	broken  bool
	lost    bool
	heads   int
	deleted []string
}

func (r *registry) Head(context.Context, string) (string, error) {
	r.heads++
	switch {
	case r.broken:
		return "", errors.New("connection refused")
	case r.lost:
		return "", dvcr.ErrNotFound
	}
	return "sha256:00", nil
}

func (r *registry) Delete(_ context.Context, reference string) error {
	if r.broken {
		return errors.New("connection refused")
	}
	r.deleted = append(r.deleted, reference)
	return nil
}

// reports holds one report, whomever it is about.
type reports struct {
	latest    *reportserver.Report
	forgotten []string
}

func (r *reports) Latest(token.Subject) (reportserver.Report, bool) {
	if r.latest == nil {
		return reportserver.Report{}, false
	}
	return *r.latest, true
}

func (r *reports) Forget(subject token.Subject) {
	r.forgotten = append(r.forgotten, subject.String())
}

type world struct {
	*Reconciler[*v1alpha2.VirtualImage]
	registry *registry
	reports  *reports
	clock    *clocktesting.FakePassiveClock
}

func newWorld(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	adapter := testAdapter()
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).
		WithStatusSubresource(&v1alpha2.VirtualImage{}).WithIndex(&corev1.Pod{}, "test"+indexPods, podsOf("VirtualImage")).
		WithIndex(&corev1.Pod{}, "test"+indexOwners, ownersOf("VirtualImage"))
	for _, kind := range usage.Kinds() {
		builder.WithIndex(kind, usage.Field("test"), usage.Keys)
	}
	c := builder.Build()
	w := &world{registry: &registry{}, reports: &reports{}, clock: clocktesting.NewFakePassiveClock(now)}
	w.Reconciler = NewReconciler(
		shared.Executor{Client: c, Recorder: record.NewFakeRecorder(20)},
		Dependencies{
			Settings: testSettings(), Issuer: issuer{}, Registry: w.registry, Reports: w.reports, Clock: w.clock,
			Filler: filling.Volumes{},
		},
		usage.NewFinder(c, "test"), adapter, "test",
	)
	return w
}

func testAdapter() Adapter[*v1alpha2.VirtualImage] {
	return Adapter[*v1alpha2.VirtualImage]{
		Kind: "VirtualImage", Finalizer: "example.org/cleanup", Volumes: true,
		New:     func() *v1alpha2.VirtualImage { return &v1alpha2.VirtualImage{} },
		NewList: func() client.ObjectList { return &v1alpha2.VirtualImageList{} },
		Read: func(i *v1alpha2.VirtualImage) (Spec, Status) {
			source := i.Spec.DataSource
			return Spec{Source: origin.Words{Type: source.Type, HTTP: source.HTTP, Upload: source.Upload}, Storage: i.Spec.Storage},
				Status{ImageStatus: *i.Status.ImageStatus.DeepCopy(), Phase: i.Status.Phase, RegistryURL: i.Status.Target.RegistryURL}
		},
		Write: func(i *v1alpha2.VirtualImage, s Status) {
			i.Status.ImageStatus, i.Status.Phase, i.Status.Target.RegistryURL = s.ImageStatus, s.Phase, s.RegistryURL
		},
	}
}

func storedImage(changes ...func(*v1alpha2.VirtualImage)) *v1alpha2.VirtualImage {
	image := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "debian", UID: testUID, Generation: 1}}
	image.Spec.DataSource = v1alpha2.VirtualImageDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/disk.qcow2"}}
	for _, change := range changes {
		change(image)
	}
	return image
}

func (w *world) reconcile(t *testing.T) (ctrl.Result, error) {
	t.Helper()
	return w.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "team", Name: "debian"}})
}

func (w *world) image(t *testing.T) *v1alpha2.VirtualImage {
	t.Helper()
	image := &v1alpha2.VirtualImage{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "debian"}, image); err != nil {
		t.Fatal(err)
	}
	return image
}

func childKey() client.ObjectKey {
	return client.ObjectKey{Namespace: "d8-virtualization", Name: "d8v-vi-importer-" + testUID}
}

func TestReconcileStartsAndFollowsAnImport(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, storedImage())
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{}
	if err := w.Client.Get(t.Context(), childKey(), secret); err != nil {
		t.Fatal(err)
	}
	want := "VirtualImage/team/debian/" + testUID + " opens [{repository vi/team/debian [pull push]}] for 12h0m0s"
	if got := string(secret.Data["token"]); got != want {
		t.Errorf("token: %q", got)
	}
	pod := &corev1.Pod{}
	if err := w.Client.Get(t.Context(), childKey(), pod); err != nil {
		t.Fatal(err)
	}
	container(corev1.PodRunning, 0, runningSince(now), corev1.ContainerState{})(pod)
	if err := w.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	w.reports.latest = &reportserver.Report{Progress: report.Progress{TransferredBytes: 1, TotalBytes: 4}, At: now}
	result, err := w.reconcile(t)
	if err != nil || result.RequeueAfter != 6*time.Hour+time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	if image := w.image(t); image.Status.Progress != "25%" || image.Finalizers[0] != "example.org/cleanup" {
		t.Errorf("image: %+v", image)
	}
}

// The server may delete an image in the moment in which it accepts the finalizer.
func TestReconcileRemovesWhatAnImageThatIsGoneHasLeft(t *testing.T) {
	o := observe(uploading(time.Time{}))
	gone := importerpod.Pod(newDraft(o).order())
	other := observe(func(o *Observed) { o.Image.Name = "other" })
	kept := importerpod.Pod(newDraft(other).order())
	kept.Name = "kept"
	way := metav1.ObjectMeta{Namespace: gone.Namespace, Name: "d8v-upload-" + testUID}
	children := []client.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: gone.Namespace, Name: gone.Name}},
		&corev1.Service{ObjectMeta: way}, &networkingv1.Ingress{ObjectMeta: way}, gone,
	}
	again := storedImage(func(i *v1alpha2.VirtualImage) { i.UID = "another" })
	for name, objects := range map[string][]client.Object{"nothing has the name": nil, "another image has the name": {again}} {
		t.Run(name, func(t *testing.T) {
			all := append([]client.Object{kept.DeepCopy()}, objects...)
			for _, child := range children {
				all = append(all, child.DeepCopyObject().(client.Object))
			}
			w := newWorld(t, interceptor.Funcs{}, all...)
			if _, err := w.reconcile(t); err != nil {
				t.Fatal(err)
			}
			for _, child := range children {
				if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(child), child.DeepCopyObject().(client.Object)); !apierrors.IsNotFound(err) {
					t.Errorf("%T is left: %v", child, err)
				}
			}
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(kept), &corev1.Pod{}); err != nil {
				t.Errorf("the importer of another image: %v", err)
			}
		})
	}
}

func TestReconcileLeavesAForeignPodAlone(t *testing.T) {
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: childKey().Name, UID: "foreign"}}
	w := newWorld(t, interceptor.Funcs{}, storedImage(), foreign)
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := w.Client.Get(t.Context(), childKey(), pod); err != nil || pod.UID != "foreign" {
		t.Errorf("pod %v, %v", pod.UID, err)
	}
}

func TestReconcileTellsARefusal(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("exceeded quota: small"))
		},
	}, storedImage())
	result, err := w.reconcile(t)
	if err != nil || result.RequeueAfter != 30*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	checkCondition(t, w.image(t).Status.Conditions, "Ready", "False/QuotaExceeded")
}

func TestReconcileReturnsOtherErrors(t *testing.T) {
	away := errors.New("the server is away")
	w := newWorld(t, interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return away },
	}, storedImage())
	if _, err := w.reconcile(t); !errors.Is(err, away) {
		t.Errorf("error: %v", err)
	}
	w = newWorld(t, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, pods := list.(*corev1.PodList); pods {
				return away
			}
			return c.List(ctx, list, opts...)
		},
	}, storedImage())
	if _, err := w.reconcile(t); !errors.Is(err, away) {
		t.Errorf("error: %v", err)
	}
	w = newWorld(t, interceptor.Funcs{}, storedImage())
	w.Issuer = issuer{err: errors.New("no key")}
	if _, err := w.reconcile(t); err == nil || !strings.Contains(err.Error(), "issuing the importer's token: no key") {
		t.Errorf("error: %v", err)
	}
}

func TestReconcileTriesToEmptyTheRegistryUntilTheDeadline(t *testing.T) {
	leaving := func(i *v1alpha2.VirtualImage) {
		i.DeletionTimestamp, i.Finalizers = &metav1.Time{Time: now}, []string{"example.org/cleanup"}
		i.Status.Phase = v1alpha2.ImageTerminating
	}
	w := newWorld(t, interceptor.Funcs{}, storedImage(leaving))
	w.registry.broken = true
	result, err := w.reconcile(t)
	if err != nil || result.RequeueAfter != 5*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	// The status was changed, which brings the image back before its time.
	w.clock.SetTime(now.Add(time.Second))
	if result, err = w.reconcile(t); err != nil || result.RequeueAfter != 4*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	condition := meta.FindStatusCondition(w.image(t).Status.Conditions, "Terminating")
	if !strings.Contains(condition.Message, "connection refused") || !strings.Contains(condition.Message, "2026-11-22T12:05:00Z") {
		t.Errorf("condition: %+v", condition)
	}
	w.clock.SetTime(now.Add(5 * time.Minute))
	if _, err = w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "debian"}, &v1alpha2.VirtualImage{}); !apierrors.IsNotFound(err) {
		t.Errorf("the image is held for ever: %v", err)
	}
	events := w.Recorder.(*record.FakeRecorder).Events
	if event := <-events; !strings.HasPrefix(event, "Warning ImageLeftInRegistry The image stays in the registry as dvcr.example.org/vi/team/debian:") {
		t.Errorf("event: %q", event)
	}
}

func TestReconcileEmptiesAMendedRegistry(t *testing.T) {
	w := newWorld(t, interceptor.Funcs{}, storedImage(func(i *v1alpha2.VirtualImage) {
		i.DeletionTimestamp, i.Finalizers = &metav1.Time{Time: now}, []string{"example.org/cleanup"}
		i.Status.Phase = v1alpha2.ImageTerminating
	}))
	w.registry.broken = true
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	w.registry.broken = false
	w.clock.SetTime(now.Add(5 * time.Second))
	if _, err := w.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if len(w.registry.deleted) != 1 || w.registry.deleted[0] != "dvcr.example.org/vi/team/debian:"+testUID {
		t.Errorf("deleted: %q", w.registry.deleted)
	}
	if len(w.reports.forgotten) == 0 || w.reports.forgotten[0] != "VirtualImage/team/debian/"+testUID {
		t.Errorf("forgotten: %q", w.reports.forgotten)
	}
	if _, err := w.reconcile(t); err != nil {
		t.Errorf("an image that is gone: %v", err)
	}
}
