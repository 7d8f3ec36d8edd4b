// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// newNamespace makes a namespace for one test and deletes it afterwards. After a
// failure it is left for whoever looks into it, with its machines stopped: a guest
// that holds a processor would make other tests fail, too.
func newNamespace(t *testing.T) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	if err := kube.Create(context.Background(), namespace); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		checkInvariants(t, namespace.Name)
		if t.Failed() {
			t.Logf("namespace %s is kept", namespace.Name)
			stopMachines(t, namespace.Name)
			return
		}
		if err := kube.Delete(context.Background(), namespace); err != nil {
			t.Errorf("deleting namespace %s: %v", namespace.Name, err)
		}
	})
	return namespace.Name
}

// stopMachines stops all machines of a namespace, without waiting for them.
func stopMachines(t *testing.T, namespace string) {
	t.Helper()
	list := &v1alpha2.VirtualMachineList{}
	if err := kube.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
		t.Error(err)
	}
	off := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"runPolicy":"AlwaysOff"}}`))
	for i := range list.Items {
		if err := kube.Patch(context.Background(), &list.Items[i], off); client.IgnoreNotFound(err) != nil {
			t.Errorf("stopping %s: %v", list.Items[i].Name, err)
		}
	}
}

// create makes the objects of a YAML text, as a user would by kubectl create.
func create[T client.Object](ctx context.Context, t *testing.T, namespace, manifest string, object T) T {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(manifest), object); err != nil {
		t.Fatal(err)
	}
	object.SetNamespace(namespace)
	if err := kube.Create(ctx, object); err != nil {
		t.Fatal(err)
	}
	return object
}

func image(ctx context.Context, t *testing.T, namespace, name, file string) *v1alpha2.VirtualImage {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  storage: ContainerRegistry
  dataSource: {type: HTTP, http: {url: %q}}
`, name, guestsURL+file), &v1alpha2.VirtualImage{})
}

// diskOfTiny makes a disk from the image "tiny" of the namespace.
func diskOfTiny(ctx context.Context, t *testing.T, namespace, name string) *v1alpha2.VirtualDisk {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: tiny}}
`, name), &v1alpha2.VirtualDisk{})
}

func machine(ctx context.Context, t *testing.T, namespace, name, disk string) *v1alpha2.VirtualMachine {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %[1]s}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: %[2]s}]
  provisioning:
    type: UserData
    userData: |
      #!/bin/sh
      hostname %[1]s
      echo "USER-DATA of $(hostname)"
`, name, disk), &v1alpha2.VirtualMachine{})
}

// waitFor reads the object until done says so. On a timeout it shows the status
// that people would see.
func waitFor[T client.Object](ctx context.Context, t *testing.T, object T, what string, done func(T) bool) T {
	t.Helper()
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		return done(object), nil
	})
	if err != nil {
		shown, _ := yaml.Marshal(object)
		t.Fatalf("%s/%s: %s: %v\n%s", object.GetNamespace(), object.GetName(), what, err, shown)
	}
	return object
}

// waitReady waits for the condition Ready.
func waitReady[T client.Object](ctx context.Context, t *testing.T, object T) T {
	t.Helper()
	return waitFor(ctx, t, object, "never became Ready", func(o T) bool {
		return meta.IsStatusConditionTrue(conditionsOf(o), v1alpha2.ConditionReady)
	})
}

func waitPhase(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, phase v1alpha2.MachinePhase) {
	t.Helper()
	waitFor(ctx, t, m, "never became "+string(phase), func(m *v1alpha2.VirtualMachine) bool { return m.Status.Phase == phase })
}

// waitGone waits until none of the objects is there any more.
func waitGone(ctx context.Context, t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			err := kube.Get(ctx, client.ObjectKeyFromObject(object), object)
			return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
		})
		if err != nil {
			shown, _ := yaml.Marshal(object)
			t.Fatalf("%T %s is still there: %v\n%s", object, object.GetName(), err, shown)
		}
	}
}

func remove(ctx context.Context, t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := kube.Delete(ctx, object); err != nil {
			t.Fatal(err)
		}
	}
}

func conditionsOf(object client.Object) []metav1.Condition {
	switch o := object.(type) {
	case *v1alpha2.VirtualImage:
		return o.Status.Conditions
	case *v1alpha2.ClusterVirtualImage:
		return o.Status.Conditions
	case *v1alpha2.VirtualDisk:
		return o.Status.Conditions
	case *v1alpha2.VirtualMachine:
		return o.Status.Conditions
	case *v1alpha2.VirtualMachineIPAddress:
		return o.Status.Conditions
	default:
		return nil
	}
}

// says tells whether a condition that is not True has a message with all words.
func says(object client.Object, words ...string) bool {
	for _, condition := range conditionsOf(object) {
		if condition.Status == metav1.ConditionTrue {
			continue
		}
		found := true
		for _, word := range words {
			found = found && strings.Contains(condition.Message, word)
		}
		if found {
			return true
		}
	}
	return false
}

// waitEmpty waits until a namespace holds nothing of a kind.
func waitEmpty(ctx context.Context, t *testing.T, namespace, what string, list client.ObjectList) {
	t.Helper()
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		if err := kube.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		return meta.LenList(list) == 0, nil
	})
	if err != nil {
		shown, _ := yaml.Marshal(list)
		t.Fatalf("%s are left in %s: %v\n%s", what, namespace, err, shown)
	}
}

// waitNone waits until nothing is counted any more.
func waitNone(ctx context.Context, t *testing.T, what string, count func() (int, error)) {
	t.Helper()
	n := 0
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(context.Context) (done bool, err error) {
		n, err = count()
		return n == 0, err
	})
	if err != nil {
		t.Fatalf("%d %s are left: %v", n, what, err)
	}
}
