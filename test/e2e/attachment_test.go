// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func attach(ctx context.Context, t *testing.T, namespace, name string, kind v1alpha2.BlockDeviceKind, device string) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	t.Helper()
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  virtualMachineName: web
  blockDeviceRef: {kind: %s, name: %s}
`, name, kind, device), &v1alpha2.VirtualMachineBlockDeviceAttachment{})
}

func waitAttached(ctx context.Context, t *testing.T, attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) {
	t.Helper()
	waitFor(ctx, t, attachment, "was never attached", func(a *v1alpha2.VirtualMachineBlockDeviceAttachment) bool {
		return a.Status.Phase == v1alpha2.AttachmentAttached && meta.IsStatusConditionTrue(a.Status.Conditions, v1alpha2.ConditionReady)
	})
}

// TestDevicesComeAndGo plugs disks and an image into a running guest and takes them
// out again; the guest itself is asked what it sees.
func TestDevicesComeAndGo(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	source := image(ctx, t, namespace, "tiny", "tiny.qcow2")
	root := diskOfTiny(ctx, t, namespace, "web-root")
	data := create(ctx, t, namespace, `
metadata: {name: data}
spec:
  persistentVolumeClaim: {size: 64Mi}
`, &v1alpha2.VirtualDisk{})
	m := create(ctx, t, namespace, `
metadata: {name: web}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 10%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: web-root}]
`, &v1alpha2.VirtualMachine{})
	waitReady(ctx, t, data)
	waitReady(ctx, t, m)
	c := openConsole(ctx, t, namespace, "web")
	c.expect(ctx, "GUEST-READY")

	disk := attach(ctx, t, namespace, "data", v1alpha2.BlockDeviceVirtualDisk, "data")
	tools := attach(ctx, t, namespace, "tools", v1alpha2.BlockDeviceVirtualImage, "tiny")
	waitAttached(ctx, t, disk)
	waitAttached(ctx, t, tools)
	// 64 MiB are 131072 sectors.
	c.send("for d in /sys/block/sd*; do echo has=$(cat $d/size)=$(cat $d/ro); done")
	c.expect(ctx, "has=131072=0")
	c.expect(ctx, "=1\r")
	t.Run("a second attachment is refused", func(t *testing.T) { checkRefusedTwice(ctx, t, disk) })
	t.Run("the guest sees the disk grow", func(t *testing.T) {
		before := data.DeepCopy()
		size := resource.MustParse("96Mi")
		data.Spec.PersistentVolumeClaim.Size = &size
		if err := kube.Patch(ctx, data, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		waitFor(ctx, t, data, "never grew", func(d *v1alpha2.VirtualDisk) bool { return d.Status.Capacity == "96Mi" })
		c.send("until grep -q 196608 /sys/block/sd*/size; do sleep 1; done; echo grown=$((1+1))")
		c.expect(ctx, "grown=2")
	})

	remove(ctx, t, disk, tools)
	waitGone(ctx, t, disk, tools)
	c.send("echo left=$(ls -d /sys/block/sd* | wc -l)")
	c.expect(ctx, "left=1")
	t.Run("the list is followed", func(t *testing.T) { checkList(ctx, t, m) })

	remove(ctx, t, data, root, source, m)
	waitGone(ctx, t, m, data, root, source)
	checkNothingLeft(ctx, t, namespace)
}

func checkRefusedTwice(ctx context.Context, t *testing.T, first *v1alpha2.VirtualMachineBlockDeviceAttachment) {
	second := &v1alpha2.VirtualMachineBlockDeviceAttachment{Spec: first.Spec}
	second.Namespace, second.Name = first.Namespace, "again"
	if err := kube.Create(ctx, second); !apierrors.IsInvalid(err) {
		t.Errorf("a second attachment of a device: %v", err)
	}
}

// checkList adds a disk to the list of a running machine and takes it out again.
func checkList(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	set := func(change func(*v1alpha2.VirtualMachine)) {
		t.Helper()
		before := m.DeepCopy()
		change(m)
		if err := kube.Patch(ctx, m, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	set(func(m *v1alpha2.VirtualMachine) {
		m.Spec.BlockDeviceRefs = append(m.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "data"})
	})
	waitFor(ctx, t, m, "never got the disk", func(m *v1alpha2.VirtualMachine) bool {
		refs := m.Status.BlockDeviceRefs
		return len(refs) == 2 && refs[1].Attached && refs[1].Hotplugged && refs[1].Target != ""
	})
	if len(m.Status.RestartAwaitingChanges) > 0 {
		t.Errorf("waits for a restart: %+v", m.Status.RestartAwaitingChanges)
	}
	set(func(m *v1alpha2.VirtualMachine) { m.Spec.BlockDeviceRefs = m.Spec.BlockDeviceRefs[:1] })
	waitFor(ctx, t, m, "never lost the disk", func(m *v1alpha2.VirtualMachine) bool { return len(m.Status.BlockDeviceRefs) == 1 })
}
