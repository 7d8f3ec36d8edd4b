// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const namespace = "d8-virtualization"

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels: map[string]string{"module": "virtualization"},
	}
}

// installed is a cluster with the module and two machines, one of them stopped.
func installed() []client.Object {
	pod := &corev1.Pod{ObjectMeta: named("virtualization-controller-1")}
	pod.Labels["app"] = "virtualization-controller"
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "virtualization-controller", UID: "r"}}
	operated := named("cdi")
	operated.Namespace = ""
	return []client.Object{
		&appsv1.Deployment{ObjectMeta: named("virtualization-controller"), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](1)}},
		pod,
		&virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "mail", UID: "m-1"}},
		&virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "off", UID: "m-2"}},
		&virtv1.VirtualMachineInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "mail", UID: "g-1", Finalizers: []string{"foregroundDeleteVirtualMachine"}},
			Status:     virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running, NodeName: "node-2"},
		},
		&virtv1.KubeVirt{ObjectMeta: named("kubevirt"), Status: virtv1.KubeVirtStatus{Phase: virtv1.KubeVirtPhaseDeployed}},
		&cdiv1.CDI{ObjectMeta: operated},
	}
}

// cluster plays what else would happen: controllers end, guests shut down. order
// tells in which order objects were deleted.
type cluster struct {
	client.Client
	order []string
	// stuck guests never shut down.
	stuck bool
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	c.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Delete: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			c.order = append(c.order, kindOf(object)+" "+object.GetName())
			if err := inner.Delete(ctx, object, options...); err != nil {
				return err
			}
			return c.shutDown(ctx, inner, object)
		},
		SubResourceUpdate: func(ctx context.Context, inner client.Client, name string, object client.Object, options ...client.SubResourceUpdateOption) error {
			c.order = append(c.order, name+" "+object.GetName())
			if err := inner.SubResource(name).Update(ctx, object, options...); err != nil {
				return err
			}
			return inner.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace))
		},
	}).Build()
	return c
}

func kindOf(object client.Object) string {
	switch object.(type) {
	case *virtv1.VirtualMachine:
		return "Machine"
	case *virtv1.VirtualMachineInstance:
		return "Guest"
	case *virtv1.KubeVirt:
		return "KubeVirt"
	}
	return "CDI"
}

// shutDown takes the finalizer of a guest away, as virt-handler does in the end.
func (c *cluster) shutDown(ctx context.Context, inner client.Client, object client.Object) error {
	guest, ok := object.(*virtv1.VirtualMachineInstance)
	if !ok || c.stuck {
		return nil
	}
	if err := inner.Get(ctx, client.ObjectKeyFromObject(guest), guest); err != nil {
		return client.IgnoreNotFound(err)
	}
	guest.Finalizers = nil
	return inner.Update(ctx, guest)
}

func (c *cluster) remover(timeout time.Duration) *Remover {
	return &Remover{
		Client: c, Namespace: namespace, Timeout: timeout, Interval: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func TestRunRemovesInOrder(t *testing.T) {
	c := newCluster(t, installed()...)
	if err := c.remover(time.Minute).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"scale virtualization-controller", "Machine mail", "Machine off", "Guest mail", "KubeVirt kubevirt", "CDI cdi"}
	if !slices.Equal(c.order, want) {
		t.Errorf("order %q", c.order)
	}
	deployment := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "virtualization-controller"}, deployment); err != nil {
		t.Fatal(err)
	}
	if *deployment.Spec.Replicas != 0 {
		t.Errorf("%d replicas", *deployment.Spec.Replicas)
	}
	// A second run, as after a Job that was killed, finds nothing to do.
	if err := c.remover(time.Minute).Run(t.Context()); err != nil || !slices.Equal(c.order, want) {
		t.Errorf("again: %v, %q", err, c.order)
	}
}

func TestRunNamesGuestsThatStay(t *testing.T) {
	c := newCluster(t, installed()...)
	c.stuck = true
	err := c.remover(200 * time.Millisecond).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "\n  - guest team/mail (Running on node node-2)\nWhat to do: look at the logs of virt-controller") {
		t.Errorf("got %v", err)
	}
	if slices.Contains(c.order, "KubeVirt kubevirt") {
		t.Error("KubeVirt was deleted under a running guest")
	}
}

func TestRunLeavesAnotherKubeVirtAlone(t *testing.T) {
	foreign := &virtv1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Namespace: "kubevirt", Name: "kubevirt"}}
	theirs := &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "mail"}}
	c := newCluster(t, foreign, theirs)
	if err := c.remover(time.Minute).Run(t.Context()); err != nil || len(c.order) != 0 {
		t.Errorf("got %v, deleted %q", err, c.order)
	}
}

// A CDI that somebody else installed is not the module's to remove.
func TestRunLeavesAnotherCDIAlone(t *testing.T) {
	c := newCluster(t, &cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "cdi"}})
	if err := c.remover(time.Minute).Run(t.Context()); err != nil || len(c.order) != 0 {
		t.Errorf("got %v, deleted %q", err, c.order)
	}
}

// failing answers the first lists of a kind with an error.
func failing(c *cluster, times int, answer error) client.Client {
	return interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, inner client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if _, machines := list.(*virtv1.VirtualMachineList); machines && times > 0 {
				times--
				return answer
			}
			return inner.List(ctx, list, options...)
		},
	})
}

func TestRunAsksAgain(t *testing.T) {
	c := newCluster(t, installed()...)
	remover := c.remover(time.Minute)
	remover.Client = failing(c, 3, errors.New("connection refused"))
	if err := remover.Run(t.Context()); err != nil || len(c.order) != 6 {
		t.Errorf("got %v, %q", err, c.order)
	}
}

func TestRunEndsWhereItMayNot(t *testing.T) {
	c := newCluster(t, installed()...)
	remover := c.remover(time.Minute)
	remover.Client = failing(c, 1, apierrors.NewForbidden(schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachines"}, "", errors.New("no role")))
	if err := remover.Run(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}

// The kinds of an engine that is gone already are not served.
func TestKindsThatAreGoneHaveNoObjects(t *testing.T) {
	for _, answer := range []error{
		&meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: "kubevirt.io", Kind: "VirtualMachine"}},
		apierrors.NewNotFound(schema.GroupResource{Group: "kubevirt.io", Resource: "virtualmachines"}, ""),
	} {
		c := newCluster(t)
		remover := c.remover(time.Minute)
		remover.Client = failing(c, 100, answer)
		if err := remover.Run(t.Context()); err != nil {
			t.Errorf("%v: %v", answer, err)
		}
	}
}

func TestRunIsInterrupted(t *testing.T) {
	c := newCluster(t, installed()...)
	c.stuck = true
	ctx, cancel := context.WithCancel(t.Context())
	remover := c.remover(time.Minute)
	remover.Client = interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, inner client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if slices.Contains(c.order, "Guest mail") {
				cancel()
			}
			return inner.List(ctx, list, options...)
		},
	})
	if err := remover.Run(ctx); err == nil || err.Error() != "the removal was interrupted while stopping guests" {
		t.Errorf("got %v", err)
	}
}

func TestPodsOfOthersDoNotCount(t *testing.T) {
	job := &corev1.Pod{ObjectMeta: named("removal")}
	job.Labels["app"] = "virtualization-controller"
	ended := &corev1.Pod{ObjectMeta: named("ended"), Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}
	ended.Labels["app"] = "virtualization-controller"
	ended.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x", UID: "x"}}
	o, err := newCluster(t, job, ended).remover(time.Minute).observe(t.Context())
	if err != nil || len(o.Controller.Pods) != 0 {
		t.Errorf("got %v, %v", o.Controller.Pods, err)
	}
}

func TestStateTellsWhyKubeVirtStays(t *testing.T) {
	stuck := &virtv1.KubeVirt{ObjectMeta: named("kubevirt"), Status: virtv1.KubeVirtStatus{
		Phase: virtv1.KubeVirtPhaseDeleting,
		Conditions: []virtv1.KubeVirtCondition{{
			Type: virtv1.KubeVirtConditionSynchronized, Status: corev1.ConditionFalse, Message: "CRD virtualmachines.kubevirt.io is in use",
		}},
	}}
	o, err := newCluster(t, stuck).remover(time.Minute).observe(t.Context())
	if err != nil || len(o.Operated) != 1 {
		t.Fatalf("got %v, %v", o.Operated, err)
	}
	want := "KubeVirt d8-virtualization/kubevirt (Deleting: CRD virtualmachines.kubevirt.io is in use)"
	if got := o.Operated[0].String(); got != want {
		t.Errorf("got %q", got)
	}
}

// remembering is a machine of a user, the engine's, and the volume of its firmware.
func remembering(name string) []client.Object {
	ours := metav1.OwnerReference{APIVersion: "kubevirt.io/v1", Kind: "VirtualMachine", Name: name, UID: types.UID("k-" + name)}
	return []client.Object{
		&v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID("u-" + name)}},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "persistent-state-for-" + name, OwnerReferences: []metav1.OwnerReference{ours},
			Labels: map[string]string{"persistent-state-for": name},
		}},
	}
}

func TestRunKeepsWhatFirmwareRemembers(t *testing.T) {
	objects := slices.Concat(installed(), remembering("mail"), remembering("gone")[1:], remembering("kept"))
	kept := objects[len(objects)-1].(*corev1.PersistentVolumeClaim)
	kept.OwnerReferences = append(kept.OwnerReferences, metav1.OwnerReference{
		APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualMachine", Name: "kept", UID: "u-kept",
	})
	c := newCluster(t, objects...)
	if err := c.remover(time.Minute).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// That of a machine which is gone goes with the engine's.
	for name, want := range map[string][]types.UID{"mail": {"k-mail", "u-mail"}, "gone": {"k-gone"}, "kept": {"k-kept", "u-kept"}} {
		claim := &corev1.PersistentVolumeClaim{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "persistent-state-for-" + name}, claim); err != nil {
			t.Fatal(err)
		}
		var owners []types.UID
		for _, owner := range claim.OwnerReferences {
			owners = append(owners, owner.UID)
		}
		if !slices.Equal(owners, want) {
			t.Errorf("the volume of %s belongs to %q", name, owners)
		}
	}
}

// Nothing is deleted while a volume can't be kept.
func TestRunNamesVolumesThatCannotBeKept(t *testing.T) {
	c := newCluster(t, append(installed(), remembering("mail")...)...)
	remover := c.remover(200 * time.Millisecond)
	remover.Client = interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return errors.New("some webhook says no")
		},
	})
	err := remover.Run(t.Context())
	for _, want := range []string{"\n  - volume team/persistent-state-for-mail\n", "keeping the volume team/persistent-state-for-mail: some webhook says no"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if !slices.Equal(c.order, []string{"scale virtualization-controller"}) {
		t.Errorf("order %q", c.order)
	}
}

func moduleConfig(enabled bool) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "deckhouse.io/v1alpha1", "kind": "ModuleConfig", "metadata": map[string]any{"name": "virtualization"},
		"spec": map[string]any{"enabled": enabled},
	}}
}

// Somebody who disabled the module by mistake enables it again while guests are being stopped.
func TestRunEndsWhenTheModuleIsEnabledAgain(t *testing.T) {
	c := newCluster(t, append(installed(), moduleConfig(false))...)
	c.stuck = true
	remover := c.remover(time.Minute)
	remover.Client = interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		Delete: func(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			if err := inner.Update(ctx, latest(ctx, t, inner, moduleConfig(true))); err != nil {
				t.Error(err)
			}
			return inner.Delete(ctx, object, options...)
		},
	})
	if err := remover.Run(t.Context()); !errors.Is(err, ErrRevoked) {
		t.Errorf("got %v", err)
	}
	if slices.Contains(c.order, "KubeVirt kubevirt") {
		t.Error("KubeVirt was deleted all the same")
	}
}

func latest(ctx context.Context, t *testing.T, reader client.Reader, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	now := object.DeepCopy()
	if err := reader.Get(ctx, client.ObjectKeyFromObject(object), now); err != nil {
		t.Fatal(err)
	}
	object.SetResourceVersion(now.GetResourceVersion())
	return object
}

// A module that the cluster lacks something for is removed though its ModuleConfig enables it.
func TestRunRemovesWhatIsEnabledAllTheTime(t *testing.T) {
	c := newCluster(t, append(installed(), moduleConfig(true))...)
	if err := c.remover(time.Minute).Run(t.Context()); err != nil || len(c.order) != 6 {
		t.Errorf("got %v, %q", err, c.order)
	}
}
