// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// TestQuickStartGuestAnswers looks at what "make up" left: the Debian guest lets
// the user of its cloud-init data in.
func TestQuickStartGuestAnswers(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "quickstart", Name: "hello"}}
	waitReady(ctx, t, m)
	c := openConsole(ctx, t, "quickstart", "hello")
	c.expect(ctx, "hello login:")
	c.send("user")
	c.expect(ctx, "Password:")
	c.send("virtualization")
	c.expect(ctx, "user@hello")
	c.send("echo answer=$((6*7)); exit")
	c.expect(ctx, "answer=42")
}

// TestLifeOfAMachine is the quick start with the tiny guest, then stop, start and
// deletion, until nothing is left.
func TestLifeOfAMachine(t *testing.T) {
	ctx := deadline(t, 8*time.Minute)
	namespace := newNamespace(t)
	// All at once, as people apply one file: everything waits for what it needs.
	m := machine(ctx, t, namespace, "web", "web-root")
	disk := diskOfTiny(ctx, t, namespace, "web-root")
	source := image(ctx, t, namespace, "tiny", "tiny.qcow2")

	waitReady(ctx, t, source)
	if source.Status.Format != "qcow2" || source.Status.Progress != "100%" {
		t.Errorf("image: format %q, progress %q", source.Status.Format, source.Status.Progress)
	}
	waitReady(ctx, t, disk)
	waitReady(ctx, t, m)
	t.Run("the guest answers", func(t *testing.T) {
		c := openConsole(ctx, t, namespace, "web")
		c.expect(ctx, "GUEST-READY")
		c.send("echo name=$(hostname) answer=$((6*7))")
		c.expect(ctx, "name=web answer=42")
	})
	t.Run("the pod has the machine's address", func(t *testing.T) { checkAddress(ctx, t, m) })
	t.Run("it stops and starts by its run policy", func(t *testing.T) { checkRunPolicy(ctx, t, m) })

	remove(ctx, t, disk, source, m) // the disk first: it is in use
	waitGone(ctx, t, m, disk, source)
	checkNothingLeft(ctx, t, namespace)
}

func checkAddress(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	claim := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Status.VirtualMachineIPAddressName},
	}
	if err := kube.Get(ctx, client.ObjectKeyFromObject(claim), claim); err != nil {
		t.Fatal(err)
	}
	if claim.Status.Phase != v1alpha2.IPAddressAttached || claim.Status.Address != m.Status.IPAddress {
		t.Errorf("claim: phase %q, address %q; machine: %q", claim.Status.Phase, claim.Status.Address, m.Status.IPAddress)
	}
	pod := launcher(ctx, t, m)
	if pod.Status.PodIP != m.Status.IPAddress || !strings.HasPrefix(pod.Status.PodIP, "10.66.10.") {
		t.Errorf("the pod has %q, the machine %q", pod.Status.PodIP, m.Status.IPAddress)
	}
	if pod.Spec.NodeName != m.Status.NodeName {
		t.Errorf("the pod is on %q, the machine says %q", pod.Spec.NodeName, m.Status.NodeName)
	}
}

// launcher is the one pod that a machine runs in.
func launcher(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) *corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	err := kube.List(ctx, pods, client.InNamespace(m.Namespace), client.MatchingLabels{"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": m.Name})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("%d launcher pods, want 1", len(pods.Items))
	}
	return &pods.Items[0]
}

func checkRunPolicy(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	address := m.Status.IPAddress
	setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOff)
	waitPhase(ctx, t, m, v1alpha2.MachineStopped)
	waitReady(ctx, t, m) // a machine that is meant to be stopped is as it should be
	setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOn)
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	waitReady(ctx, t, m)
	if m.Status.IPAddress != address {
		t.Errorf("the address changed from %s to %s", address, m.Status.IPAddress)
	}
}

func setRunPolicy(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine, policy v1alpha2.RunPolicy) {
	t.Helper()
	before := m.DeepCopy()
	m.Spec.RunPolicy = policy
	if err := kube.Patch(ctx, m, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// checkNothingLeft waits until the namespace holds only what every namespace has.
func checkNothingLeft(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	lists := map[string]client.ObjectList{
		"pods": &corev1.PodList{}, "secrets": &corev1.SecretList{}, "volume claims": &corev1.PersistentVolumeClaimList{},
		"address claims": &v1alpha2.VirtualMachineIPAddressList{},
	}
	for what, list := range lists {
		waitEmpty(ctx, t, namespace, what, list)
	}
	maps := &corev1.ConfigMapList{}
	if err := kube.List(ctx, maps, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for _, item := range maps.Items {
		if item.Name != "kube-root-ca.crt" && item.Name != "kubevirt-ca" {
			t.Errorf("a ConfigMap is left: %s", item.Name)
		}
	}
}

// TestDiskFromAClusterImage uses an image that every namespace may use, and a
// blank disk beside it.
func TestDiskFromAClusterImage(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	shared := create(ctx, t, "", `
metadata: {generateName: e2e-}
spec:
  dataSource: {type: HTTP, http: {url: "`+guestsURL+`tiny.qcow2"}}
`, &v1alpha2.ClusterVirtualImage{})
	t.Cleanup(func() { _ = client.IgnoreNotFound(kube.Delete(context.Background(), shared)) })
	disk := create(ctx, t, namespace, `
metadata: {name: root}
spec:
  dataSource: {type: ObjectRef, objectRef: {kind: ClusterVirtualImage, name: `+shared.Name+`}}
`, &v1alpha2.VirtualDisk{})
	blank := create(ctx, t, namespace, `
metadata: {name: blank}
spec:
  persistentVolumeClaim: {size: 64Mi}
`, &v1alpha2.VirtualDisk{})
	waitReady(ctx, t, shared)
	waitReady(ctx, t, disk)
	waitReady(ctx, t, blank)

	before := blank.DeepCopy()
	size := resource.MustParse("96Mi")
	blank.Spec.PersistentVolumeClaim.Size = &size
	if err := kube.Patch(ctx, blank, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, blank, "never grew", func(d *v1alpha2.VirtualDisk) bool { return d.Status.Capacity == "96Mi" })

	remove(ctx, t, shared, disk, blank) // the image while disks made from it are there
	waitGone(ctx, t, shared, disk, blank)
	checkNothingLeft(ctx, t, namespace)
	pods := &corev1.PodList{}
	if err := kube.List(ctx, pods, client.InNamespace(moduleNamespace)); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if strings.HasPrefix(pod.Name, "d8v-") {
			t.Errorf("an importer is left: %s", pod.Name)
		}
	}
}
