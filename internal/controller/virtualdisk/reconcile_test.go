// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// issuer makes tokens that can be read.
type issuer struct{ err error }

func (i issuer) Issue(subject string, access []token.Access, ttl time.Duration) (string, error) {
	return fmt.Sprintf("%s opens %v for %s", subject, access, ttl), i.err
}

// newReconciler works on a fake API server that holds the objects.
func newReconciler(t *testing.T, funcs interceptor.Funcs, objects ...client.Object) *Reconciler {
	t.Helper()
	scheme := testScheme(t)
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(funcs).
		WithStatusSubresource(&v1alpha2.VirtualDisk{}).
		WithIndex(&v1alpha2.VirtualMachine{}, indexMachineDisks, diskNamesOf).
		WithIndex(&v1alpha2.VirtualDisk{}, indexSource, sourceOf).
		WithIndex(&v1alpha2.VirtualDisk{}, indexPending, isPending).
		WithIndex(&v1alpha2.VirtualDisk{}, indexClaim, claimOf).
		WithIndex(&v1alpha2.VirtualDisk{}, indexSecret, secretOf).
		WithIndex(&corev1.PersistentVolumeClaim{}, indexMadeFor, madeFor).
		WithIndex(&corev1.Pod{}, indexMadeFor, madeFor)
	for _, kind := range usage.Kinds() {
		builder.WithIndex(kind, usage.Field(ControllerName), usage.Keys)
	}
	c := builder.Build()
	return &Reconciler{
		Executor: shared.Executor{Client: c, Recorder: record.NewFakeRecorder(10)},
		Dependencies: Dependencies{
			Filler: filling.Volumes{}, Issuer: issuer{}, Clock: clocktesting.NewFakePassiveClock(now),
			Settings: importerpod.Settings{Namespace: "d8v-module"},
		},
		users: usage.NewFinder(c, ControllerName), live: c,
	}
}

func imageOf(kind string) client.Object {
	status := v1alpha2.ImageStatus{
		Size:       v1alpha2.ImageSize{UnpackedBytes: "2147483648"},
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ready", Message: "The image can be used"}},
	}
	if kind == "ClusterVirtualImage" {
		image := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian", UID: "image-uid"}}
		image.Status.ImageStatus, image.Status.Target.RegistryURL = status, "dvcr.example.org/cvi/debian:image-uid"
		return image
	}
	image := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "debian", UID: "image-uid"}}
	image.Status.ImageStatus, image.Status.Target.RegistryURL = status, "dvcr.example.org/vi/team/debian:image-uid"
	return image
}

func diskFrom(kind string) *v1alpha2.VirtualDisk {
	disk := observe().Disk
	disk.Spec.DataSource.ObjectRef.Kind = kind
	return disk
}

func TestObserve(t *testing.T) {
	class := storageClass("fast")
	class.Annotations["storageclass.kubernetes.io/is-default-class"] = "true"
	machine := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	machine.Spec.BlockDeviceRefs = []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}, {Kind: "VirtualImage", Name: "tools"}}
	machine.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "root", Attached: true}}
	other := machine.DeepCopy()
	other.Namespace = "another"
	profile := &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	config := &cdiv1.CDIConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "config"},
		Status:     cdiv1.CDIConfigStatus{FilesystemOverhead: &cdiv1.FilesystemOverhead{Global: "0.1"}},
	}
	for _, kind := range []string{"VirtualImage", "ClusterVirtualImage"} {
		t.Run(kind, func(t *testing.T) {
			r := newReconciler(t, interceptor.Funcs{}, class, machine, other, profile, config, imageOf(kind))
			o, err := r.observe(t.Context(), diskFrom(kind))
			if err != nil {
				t.Fatal(err)
			}
			if referent := o.Origin.Referent; o.Trouble != nil || !referent.Ready || referent.Bytes != 2<<30 || referent.UID != "image-uid" {
				t.Errorf("source: %+v, %+v", o.Origin.Referent, o.Trouble)
			}
			if want := "VirtualDisk/team/root/" + testUID + " opens [] for 1h0m0s"; o.Credential.Token != want {
				t.Errorf("token: %q", o.Credential.Token)
			}
			if fmt.Sprint(o.Machines) != "[{web true}]" {
				t.Errorf("machines: %v", o.Machines)
			}
			if o.Storage.Name != "fast" || o.Storage.Class == nil || o.Storage.Profile == nil || o.Storage.Overhead != 0.1 || o.Storage.ClaimClass != nil {
				t.Errorf("storage: %+v", o.Storage)
			}
			if o.Claim != nil || o.Filling.Exists() || !o.Now.Equal(now) {
				t.Errorf("claim %v, filling %+v, now %s", o.Claim, o.Filling, o.Now)
			}
		})
	}
}

// A machine that is being started is told of when it has the disk; until then the disk
// says what it said before.
func TestObserveMachines(t *testing.T) {
	tests := []struct {
		name              string
		phase             v1alpha2.MachinePhase
		attached, isShown bool
		want              string
	}{
		{"new", "", false, false, "[]"},
		{"starting", "Starting", false, false, "[]"},
		{"starting and told of", "Starting", false, true, "[{web false}]"},
		{"starting with the disk", "Starting", true, false, "[{web true}]"},
		{"running", "Running", true, false, "[{web true}]"},
		{"waits", "Pending", false, false, "[{web false}]"},
		{"off", "Stopped", false, true, "[{web false}]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			machine := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
			machine.Spec.BlockDeviceRefs = []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}}
			if machine.Status.Phase = test.phase; test.phase != "" {
				machine.Status.ObservedGeneration = 1
			}
			machine.Status.BlockDeviceRefs = []v1alpha2.BlockDeviceStatusRef{{Kind: "VirtualDisk", Name: "root", Attached: test.attached}}
			disk := diskFrom("VirtualImage")
			if disk.Status.AttachedToVirtualMachines = nil; test.isShown {
				disk.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: "web"}}
			}
			got, err := newReconciler(t, interceptor.Funcs{}, machine).observeMachines(t.Context(), disk)
			if err != nil || fmt.Sprint(got) != test.want {
				t.Errorf("got %v, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestObserveAnImageOnAVolume(t *testing.T) {
	image := imageOf("VirtualImage").(*v1alpha2.VirtualImage)
	image.Status.Target = v1alpha2.VirtualImageTarget{PersistentVolumeClaimName: "d8v-vi-image-uid"}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "d8v-vi-image-uid"}}
	r := newReconciler(t, interceptor.Funcs{}, image, claim)
	o, err := r.observe(t.Context(), diskFrom("VirtualImage"))
	if err != nil || o.SourceClaim == nil || o.Origin.Referent.Claim == nil || o.Trouble != nil {
		t.Errorf("source %+v, claim %v, %v", o.Origin.Referent, o.SourceClaim, err)
	}
}

func TestObserveWithoutAnything(t *testing.T) {
	r := newReconciler(t, interceptor.Funcs{})
	o, err := r.observe(t.Context(), diskFrom("VirtualImage"))
	if err != nil {
		t.Fatal(err)
	}
	if o.Trouble == nil || o.Trouble.Reason != "ImageNotFound" || o.Storage.Name != "" || o.Storage.Overhead != 0.06 {
		t.Errorf("trouble %+v, storage %+v", o.Trouble, o.Storage)
	}
	blankDisk := diskFrom("VirtualImage")
	blankDisk.Spec.DataSource = nil
	if o, err := r.observe(t.Context(), blankDisk); err != nil || o.Trouble != nil || o.Origin.Referent != nil {
		t.Errorf("origin %+v, %v", o.Origin, err)
	}
}

func TestObserveAFinishedDisk(t *testing.T) {
	claim := observe(claim("2Gi", "2Gi", owned)).Claim
	r := newReconciler(t, interceptor.Funcs{}, storageClass("fast"), claim, imageOf("VirtualImage"))
	disk := diskFrom("VirtualImage")
	disk.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True"}}
	o, err := r.observe(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	if o.Claim == nil || o.Storage.ClaimClass == nil || o.Credential.Token != "" {
		t.Errorf("claim %v, class %v, credential %+v", o.Claim, o.Storage.ClaimClass, o.Credential)
	}
}

func TestObserveTellsWhatCannotBeRead(t *testing.T) {
	class := storageClass("fast")
	class.Annotations["storageclass.kubernetes.io/is-default-class"] = "true"
	for _, broken := range []client.Object{
		&cdiv1.DataVolume{}, &corev1.PersistentVolumeClaim{}, &corev1.Pod{}, &v1alpha2.VirtualImage{}, &cdiv1.StorageProfile{}, &cdiv1.CDIConfig{},
	} {
		name := fmt.Sprintf("%T", broken)
		t.Run(name, func(t *testing.T) {
			r := newReconciler(t, interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if fmt.Sprintf("%T", o) == name {
						return errors.New("the server is away")
					}
					return c.Get(ctx, key, o, opts...)
				},
			}, class)
			if _, err := r.observe(t.Context(), diskFrom("VirtualImage")); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("error: %v", err)
			}
		})
	}
	cluster := newReconciler(t, interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			if _, ok := o.(*v1alpha2.ClusterVirtualImage); ok {
				return errors.New("the server is away")
			}
			return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
		},
	})
	if _, err := cluster.observe(t.Context(), diskFrom("ClusterVirtualImage")); err == nil {
		t.Error("no error")
	}
	for _, broken := range []client.ObjectList{&v1alpha2.VirtualMachineList{}, &storagev1.StorageClassList{}} {
		name := fmt.Sprintf("%T", broken)
		r := newReconciler(t, interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if fmt.Sprintf("%T", list) == name {
					return errors.New("the server is away")
				}
				return c.List(ctx, list, opts...)
			},
		})
		if _, err := r.observe(t.Context(), diskFrom("VirtualImage")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := newReconciler(t, interceptor.Funcs{}, imageOf("VirtualImage"))
	r.Issuer = issuer{err: errors.New("no key")}
	if _, err := r.observe(t.Context(), diskFrom("VirtualImage")); err == nil || err.Error() != "issuing the importer's token: no key" {
		t.Errorf("error: %v", err)
	}
}

func TestARefusalIsTold(t *testing.T) {
	class := storageClass("fast")
	class.Annotations["storageclass.kubernetes.io/is-default-class"] = "true"
	disk := diskFrom("VirtualImage")
	disk.Spec.DataSource, disk.Finalizers = nil, nil
	disk.Spec.PersistentVolumeClaim.Size = ptr.To(resource.MustParse("1Gi"))
	r := newReconciler(t, interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, o.GetName(), errors.New("exceeded quota: small, requested: requests.storage=1Gi, used: requests.storage=5Gi, limited: requests.storage=5Gi"))
		},
	}, class, disk)
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(disk)})
	if err != nil || result.RequeueAfter != 30*time.Second {
		t.Fatalf("result %v, %v", result, err)
	}
	stored := &v1alpha2.VirtualDisk{}
	if err := r.Client.Get(t.Context(), client.ObjectKeyFromObject(disk), stored); err != nil {
		t.Fatal(err)
	}
	checkCondition(t, stored.Status.Conditions, "Ready", "False/QuotaExceeded")
	if !strings.Contains(meta.FindStatusCondition(stored.Status.Conditions, "Ready").Message, "1Gi are missing of requests.storage") || stored.Finalizers[0] != finalizer {
		t.Errorf("disk: %+v", stored)
	}
}

func TestEventsFindTheirDisks(t *testing.T) {
	fromImage, fromCluster, growing := diskFrom("VirtualImage"), diskFrom("ClusterVirtualImage"), diskFrom("VirtualImage")
	fromCluster.Name, fromCluster.UID = "cluster", "uid-2"
	fromCluster.Status.Phase = "Ready"
	growing.Name, growing.UID, growing.Namespace = "growing", "uid-3", "other"
	growing.Status.Phase = "Ready"
	growing.Status.Conditions = []metav1.Condition{{Type: "Resizing", Status: "False", Reason: "NotAvailable"}}
	pulled := observe(container).Disk
	pulled.Name, pulled.UID = "pulled", "uid-4"
	r := newReconciler(t, interceptor.Funcs{}, fromImage, fromCluster, growing, pulled)
	m := &mapper{reader: r.Client}
	for _, tc := range []struct {
		name string
		got  []reconcile.Request
		want string
	}{
		{"image", m.image(t.Context(), imageOf("VirtualImage")), "team/root"},
		{"cluster image", m.image(t.Context(), imageOf("ClusterVirtualImage")), "team/cluster"},
		{"storage", m.storage(t.Context(), storageClass("fast")), "other/growing team/pulled team/root"},
		{"claim", m.claim(t.Context(), observe(claim("1Gi", "1Gi")).Claim), "team/root"},
		{"secret", m.secret(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "pull"}}), "team/pulled"},
		{"claim of somebody else", m.claim(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data"}}), ""},
	} {
		var got []string
		for _, request := range tc.got {
			got = append(got, request.String())
		}
		if text := strings.Join(got, " "); text != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, text, tc.want)
		}
	}
	broken := &mapper{reader: newReconciler(t, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("the server is away")
		},
	}).Client}
	if got := broken.storage(t.Context(), storageClass("fast")); got != nil {
		t.Errorf("requests: %v", got)
	}
}

func TestIndexesIgnoreOtherKinds(t *testing.T) {
	for name, index := range map[string]client.IndexerFunc{"machines": diskNamesOf, "source": sourceOf, "pending": isPending, "secret": secretOf} {
		if got := index(&corev1.Pod{}); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	disk := diskFrom("VirtualImage")
	disk.Spec.DataSource = nil
	if got := sourceOf(disk); got != nil {
		t.Errorf("source of a blank disk: %v", got)
	}
	disk = diskFrom("VirtualImage")
	if got := sourceOf(disk); len(got) != 1 || got[0] != "VirtualImage/debian" {
		t.Errorf("source of a disk that is being made: %v", got)
	}
	disk.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True"}}
	if got := sourceOf(disk); got != nil {
		t.Errorf("a finished disk is brought back by %v", got)
	}
}
