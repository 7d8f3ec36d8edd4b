// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package populator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

// issuer makes tokens that can be read.
type issuer struct{ err error }

func (i issuer) Issue(subject string, access []token.Access, ttl time.Duration) (string, error) {
	return fmt.Sprintf("%s opens %v for %s", subject, access, ttl), i.err
}

// silent knows no reports.
type silent struct{}

func (silent) Latest(token.Subject) (reportserver.Report, bool) { return reportserver.Report{}, false }
func (silent) Forget(token.Subject)                             {}

// newTestReconciler works on a fake API server that holds the objects.
func newTestReconciler(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *Reconciler {
	t.Helper()
	builder := fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(objects...).WithInterceptorFuncs(funcs)
	for _, index := range indexes {
		builder.WithIndex(index.object, index.field, index.values)
	}
	c := builder.Build()
	return newReconciler(
		shared.Executor{Client: c, Recorder: record.NewFakeRecorder(10)}, c,
		Dependencies{
			Settings: importerpod.Settings{Namespace: "d8v-module", ImporterImage: "importer"}, RegistryAddress: "dvcr.example.org",
			Issuer: issuer{}, Registry: &controllertest.Registry{}, Reports: silent{}, Clock: clocktesting.NewFakePassiveClock(now),
		})
}

func fastClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
}

func TestObserve(t *testing.T) {
	claim := observe().Claim
	bound := observe(prime("pv-1"), volume("prime-uid"))
	r := newTestReconciler(t, interceptor.Funcs{}, fastClass(), readyImage(), bound.Prime, bound.Volume)
	o, err := r.observe(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	if o.Prime == nil || o.Pod != nil || o.Volume == nil || o.Volume.Name != "pv-1" || o.Class == nil || o.Overhead != 0.06 || o.Report != nil {
		t.Errorf("observed: %+v", o)
	}
	const want = "PersistentVolumeClaim/team/data/claim-uid opens [{repository vi/team/debian [pull]}] for 24h0m0s"
	if o.Credential.Token != want {
		t.Errorf("token: %q", o.Credential.Token)
	}
}

// The node that a claim was given may be set aside for machines.
func TestTheImporterRunsWhereTheClaimIsNeeded(t *testing.T) {
	machines := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "local", Effect: "NoSchedule"}}}}
	bound := observe(delayed, node("node-2"), prime("pv-1"), onNode2)
	r := newTestReconciler(t, interceptor.Funcs{}, bound.Class, readyImage(), bound.Prime, machines)
	o, err := r.observe(t.Context(), bound.Claim)
	if err != nil {
		t.Fatal(err)
	}
	pod, ok := decide(o).Create[0].(*corev1.Pod)
	if !ok || !slices.Contains(pod.Spec.Tolerations, corev1.Toleration{Key: "local", Operator: "Equal", Effect: "NoSchedule"}) {
		t.Errorf("created %+v", decide(o).Create)
	}
}

func TestObserveFindsTheVolumeThatWasHandedOver(t *testing.T) {
	handed := observe(volume("claim-uid"), marked)
	r := newTestReconciler(t, interceptor.Funcs{}, handed.Volume)
	if o, err := r.observe(t.Context(), observe().Claim); err != nil || o.Volume == nil {
		t.Errorf("volume %v, %v", o.Volume, err)
	}
	// A claim that is bound to another volume has nothing to do with this one.
	claim := observe(func(o *Observed) { o.Claim.Spec.VolumeName = "pv-2" }).Claim
	if o, err := r.observe(t.Context(), claim); err != nil || o.Volume != nil {
		t.Errorf("volume %v, %v", o.Volume, err)
	}
}

// The claim is known to be bound before it is known that the volume was filled for it.
// It must not be told that it has somebody else's volume.
func TestAVolumeIsNotForeignBecauseTheCacheIsBehind(t *testing.T) {
	bound := func(o *Observed) { o.Claim.Spec.VolumeName, o.Claim.Status.Phase = "pv-1", corev1.ClaimBound }
	stale, fresh := observe(volume("prime-uid")).Volume, observe(volume("claim-uid"), marked).Volume
	for _, tc := range []struct {
		title  string
		cached []client.Object
		live   []client.Object
		state  filling.PopulationState
	}{
		{"handed over a moment ago", []client.Object{stale}, []client.Object{fresh}, filling.PopulationDone},
		{"not in the cache at all", nil, []client.Object{fresh}, filling.PopulationDone},
		{"really foreign", []client.Object{observe(volume("claim-uid")).Volume}, []client.Object{observe(volume("claim-uid")).Volume}, filling.PopulationFailed},
		{"gone", nil, nil, filling.PopulationFailed},
	} {
		r := newTestReconciler(t, interceptor.Funcs{}, tc.cached...)
		r.live = newTestReconciler(t, interceptor.Funcs{}, tc.live...).Client
		o, err := r.observe(t.Context(), observe(bound).Claim)
		if err != nil {
			t.Fatal(err)
		}
		if told := decide(o).Population; told == nil || told.State != tc.state {
			t.Errorf("%s: told %+v, want %s", tc.title, told, tc.state)
		}
	}
	// As long as the cache knows the volume nobody else is asked.
	r := newTestReconciler(t, interceptor.Funcs{}, fresh)
	r.live = nil
	if o, err := r.observe(t.Context(), observe(bound).Claim); err != nil || o.Volume == nil {
		t.Errorf("volume %v, %v", o.Volume, err)
	}
}

// The claim is known to have an importer before that importer is known. It must not be
// started, and counted, a second time.
func TestAnImporterIsNotGoneBecauseTheCacheIsBehind(t *testing.T) {
	started := func(o *Observed) {
		o.Claim.Annotations = map[string]string{"virtualization.deckhouse.io/population": `{"state":"Running","attempts":1}`}
	}
	importer := observe(pod(corev1.ContainerState{})).Pod
	importer.Annotations[importerpod.AnnotationOwner] = filling.SubjectOf(observe().Claim).String()
	for _, tc := range []struct {
		title string
		live  []client.Object
		known bool
	}{
		{"started a moment ago", []client.Object{importer}, true},
		{"really gone", nil, false},
	} {
		r := newTestReconciler(t, interceptor.Funcs{}, fastClass(), readyImage())
		r.live = newTestReconciler(t, interceptor.Funcs{}, tc.live...).Client
		if o, err := r.observe(t.Context(), observe(started).Claim); err != nil || (o.Pod != nil) != tc.known {
			t.Errorf("%s: importer %v, %v", tc.title, o.Pod, err)
		}
	}
	// Where no importer is expected nobody else is asked.
	r := newTestReconciler(t, interceptor.Funcs{}, fastClass(), readyImage())
	r.live = nil
	if o, err := r.observe(t.Context(), observe().Claim); err != nil || o.Pod != nil {
		t.Errorf("importer %v, %v", o.Pod, err)
	}
}

func TestAnOwnClaimMayStage(t *testing.T) {
	claim := observe().Claim
	claim.Name, claim.Spec.DataSourceRef.Kind, claim.Spec.DataSourceRef.Name = "d8v-vd-disk-uid", "VirtualDisk", "root"
	disk := diskOf(&v1alpha2.VirtualDiskDataSource{Type: "HTTP", HTTP: &v1alpha2.HTTPSource{URL: "https://example.org/d"}})
	o, err := newTestReconciler(t, interceptor.Funcs{}, fastClass(), disk).observe(t.Context(), claim)
	if err != nil || !strings.Contains(o.Credential.Token, "{repository vd/team/root [pull push delete]}") {
		t.Errorf("token %q, %v", o.Credential.Token, err)
	}
}

func TestObserveTellsWhatCannotBeRead(t *testing.T) {
	away := errors.New("the server is away")
	for _, broken := range []string{"*v1.PersistentVolumeClaim", "*v1.Pod", "*v1.StorageClass", "*v1beta1.CDIConfig", "*v1alpha2.VirtualImage"} {
		r := newTestReconciler(t, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if fmt.Sprintf("%T", o) == broken {
					return away
				}
				return c.Get(ctx, key, o, opts...)
			},
		}, fastClass(), readyImage())
		if _, err := r.observe(t.Context(), observe().Claim); !errors.Is(err, away) {
			t.Errorf("%s: %v", broken, err)
		}
	}
	blind := newTestReconciler(t, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return away },
	})
	if _, err := blind.observe(t.Context(), observe().Claim); !errors.Is(err, away) {
		t.Errorf("volumes: %v", err)
	}
	if _, err := blind.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "team", Name: "data"}}); !errors.Is(err, away) {
		t.Errorf("sweep: %v", err)
	}
	if got := (&mapper{reader: blind.Client}).class(t.Context(), fastClass()); got != nil {
		t.Errorf("requests: %v", got)
	}
	mute := newTestReconciler(t, interceptor.Funcs{}, fastClass(), readyImage())
	mute.Issuer = issuer{err: errors.New("no key")}
	if _, err := mute.observe(t.Context(), observe().Claim); err == nil || err.Error() != "issuing the importer's token: no key" {
		t.Errorf("token: %v", err)
	}
}

func TestARefusalIsTold(t *testing.T) {
	claim := observe().Claim
	r := newTestReconciler(t, interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, o.GetName(), errors.New("violates a policy"))
		},
	}, fastClass(), readyImage(), claim)
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(claim)})
	if err != nil || result.RequeueAfter != 30*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	stored := &corev1.PersistentVolumeClaim{}
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(claim), stored); err != nil {
		t.Fatal(err)
	}
	if told := filling.ParsePopulation(stored); told.Reason != "Refused" || !strings.Contains(told.Message, "violates a policy") {
		t.Errorf("told: %+v", told)
	}
}

func TestTheRegistryHoldsTheClaimUntilItIsClean(t *testing.T) {
	claim := observe(held, func(o *Observed) {
		o.Claim.DeletionTimestamp = &metav1.Time{Time: now}
		o.Claim.Name, o.Claim.Spec.DataSourceRef.Kind, o.Claim.Spec.DataSourceRef.Name = "d8v-vd-disk-uid", "VirtualDisk", "root"
	}).Claim
	r := newTestReconciler(t, interceptor.Funcs{}, claim)
	registry := &controllertest.Registry{}
	registry.Fail(errors.New("connection refused"), 1)
	r.Registry = registry
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(claim)}
	if result, err := r.Reconcile(t.Context(), request); err != nil || result.RequeueAfter != 30*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	if err := r.Client.Get(t.Context(), request.NamespacedName, &corev1.PersistentVolumeClaim{}); err != nil {
		t.Fatalf("the claim was let go: %v", err)
	}
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := r.Client.Get(t.Context(), request.NamespacedName, &corev1.PersistentVolumeClaim{}); !apierrors.IsNotFound(err) {
		t.Errorf("the claim is still held: %v", err)
	}
	if got := registry.Deleted(); len(got) != 1 || got[0] != "dvcr.example.org/vd/team/root:claim-uid" {
		t.Errorf("deleted: %v", got)
	}
}

func TestEventsFindTheirClaims(t *testing.T) {
	fromImage, fromCluster, finished, plain := observe().Claim, observe().Claim, observe().Claim, observe().Claim
	fromCluster.Name, fromCluster.Namespace, fromCluster.Spec.DataSourceRef.Kind = "tools", "other", "ClusterVirtualImage"
	finished.Name = "finished"
	finished.Annotations[filling.AnnotationPopulation] = filling.Population{State: "Done"}.String()
	plain.Name, plain.Spec.DataSourceRef = "plain", nil
	filled := observe(prime("pv-1"), func(o *Observed) {
		o.Prime.Annotations[importerpod.AnnotationOwner] = "PersistentVolumeClaim/team/data/claim-uid"
	}).Prime
	m := &mapper{reader: newTestReconciler(t, interceptor.Funcs{}, fromImage, fromCluster, finished, plain, filled).Client}
	bound := func(namespace, name string, changes ...change) client.Object {
		o := observe(append([]change{volume("x")}, changes...)...)
		o.Volume.Spec.ClaimRef.Namespace, o.Volume.Spec.ClaimRef.Name = namespace, name
		return o.Volume
	}
	clusterImage := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian"}}
	for _, tc := range []struct {
		name string
		got  []reconcile.Request
		want string
	}{
		{"image", m.source(t.Context(), readyImage()), "team/data"},
		{"cluster image", m.source(t.Context(), clusterImage), "other/tools"},
		{"disk", m.source(t.Context(), diskOf(nil)), ""},
		{"class", m.class(t.Context(), fastClass()), "other/tools team/data"},
		{"volume that was handed over", m.volume(t.Context(), bound("team", "data", marked)), "team/data"},
		{"volume of a prime", m.volume(t.Context(), bound("d8v-module", "d8v-prime-claim-uid")), "team/data"},
		{"volume of a prime that is gone", m.volume(t.Context(), bound("d8v-module", "d8v-prime-gone")), ""},
		{"volume of somebody else", m.volume(t.Context(), bound("team", "data")), ""},
		{"no volume", m.volume(t.Context(), fastClass()), ""},
	} {
		var got []string
		for _, request := range tc.got {
			got = append(got, request.String())
		}
		if text := strings.Join(got, " "); text != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, text, tc.want)
		}
	}
	if isWork(finished) || isWork(plain) || !isWork(fromImage) || isWork(fastClass()) {
		t.Error("work is told apart wrong")
	}
	held := finished.DeepCopy()
	held.Finalizers = []string{Finalizer}
	if !isWork(held) {
		t.Error("a claim that is held has to be let go")
	}
	unbound := &corev1.PersistentVolume{}
	for name, got := range map[string][]string{
		"source": sourceOf(plain), "class": classOf(finished), "target": targetOf(plain), "volume": claimUIDOf(unbound), "kind": claimUIDOf(plain),
	} {
		if got != nil {
			t.Errorf("index %s: %v", name, got)
		}
	}
	class := observe(func(o *Observed) { o.Claim.Spec.StorageClassName = ptr.To("slow") }).Claim
	if got := classOf(class); got[0] != "slow" {
		t.Errorf("class: %v", got)
	}
}
