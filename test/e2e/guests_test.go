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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// remembering is user data that leaves a variable in the firmware and a mark on the
// image beside the disk, and tells what it found of both.
const remembering = `#!/bin/sh
variable=/sys/firmware/efi/efivars/Remembered-3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11
[ -e "$variable" ] && echo "FIRMWARE kept" || echo "FIRMWARE new"
printf '\007\000\000\000x' > "$variable"
image=$(ls /dev/sd[bc] | head -n 1)
echo "IMAGE $(dd if=$image bs=1 count=4 2>/dev/null | tr -d '\000' | grep -q mark && echo marked || echo clean)"
printf mark | dd of=$image conv=notrunc 2>/dev/null && echo "IMAGE takes writes"
`

// TestGuestHardware runs one machine that has everything that is not usual: devices
// for Windows, secure boot, no drivers for virtio, an image on a volume beside its
// disk, and its user data in a Secret.
func TestGuestHardware(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	tools := create(ctx, t, namespace, `
metadata: {name: tools}
spec:
  storage: PersistentVolumeClaim
  dataSource: {type: HTTP, http: {url: "`+guestsURL+`tiny.qcow2"}}
`, &v1alpha2.VirtualImage{})
	diskOfTiny(ctx, t, namespace, "root")
	m := create(ctx, t, namespace, `
metadata: {name: odd}
spec:
  virtualMachineClassName: generic
  osType: Windows
  bootloader: EFIWithSecureBoot
  enableParavirtualization: false
  cpu: {cores: 1, coreFraction: 10%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 5
  blockDeviceRefs: [{kind: VirtualDisk, name: root}, {kind: VirtualImage, name: tools}]
  provisioning: {type: UserDataRef, userDataRef: {kind: Secret, name: init}}
`, &v1alpha2.VirtualMachine{})
	waitReady(ctx, t, tools)
	t.Run("it waits for a Secret of the right type", func(t *testing.T) { checkProvisioningSecret(ctx, t, m) })
	waitReady(ctx, t, m)
	t.Run("it boots securely and forgets nothing but what it wrote to the image", func(t *testing.T) { checkMemory(ctx, t, m) })
	t.Run("its status tells what it runs on", func(t *testing.T) { checkGuestStatus(t, m) })
	remove(ctx, t, m)
	waitGone(ctx, t, m)
	waitNone(ctx, t, "volumes of the firmware", func() (int, error) {
		claims := &corev1.PersistentVolumeClaimList{}
		err := kube.List(ctx, claims, client.InNamespace(namespace), client.HasLabels{"persistent-state-for"})
		return len(claims.Items), err
	})
}

func checkProvisioningSecret(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	told := func(words string) func(*v1alpha2.VirtualMachine) bool {
		return func(m *v1alpha2.VirtualMachine) bool {
			condition := meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionProvisioningReady)
			return condition != nil && condition.Status == metav1.ConditionFalse && strings.Contains(condition.Message, words)
		}
	}
	waitFor(ctx, t, m, "does not miss the Secret", told("/init not found: create it"))
	wrong := secret(ctx, t, m.Namespace, "Opaque", remembering)
	waitFor(ctx, t, m, "does not mind the type", told("has the type Opaque"))
	remove(ctx, t, wrong)
	secret(ctx, t, m.Namespace, v1alpha2.SecretTypeCloudInit, remembering)
	waitFor(ctx, t, m, "does not take the Secret", func(m *v1alpha2.VirtualMachine) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha2.ConditionProvisioningReady)
	})
}

func secret(ctx context.Context, t *testing.T, namespace, secretType, userData string) *corev1.Secret {
	t.Helper()
	out := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "init"},
		Type:       corev1.SecretType(secretType),
		StringData: map[string]string{"userData": userData},
	}
	if err := kube.Create(ctx, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// checkMemory listens to two starts. What was printed before somebody listened is
// lost, so that the guest is asked to say it again.
func checkMemory(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	c := openConsole(ctx, t, m.Namespace, m.Name)
	c.expect(ctx, "GUEST-READY")
	c.send("dmesg | grep -o 'Secure boot enabled'; sh /run/cloud-init/user-data; echo said=$((1+1))")
	c.expect(ctx, "said=2")
	// The first run of the same lines was that of the boot itself.
	for _, want := range []string{"Secure boot enabled\r", "FIRMWARE kept", "IMAGE takes writes", "IMAGE marked"} {
		if !strings.Contains(c.text(), want) {
			t.Errorf("the guest does not say %q:\n%s", want, c.text())
		}
	}
	setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOff)
	waitPhase(ctx, t, m, v1alpha2.MachineStopped)
	setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOn)
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	again := openConsole(ctx, t, m.Namespace, m.Name)
	again.expect(ctx, "GUEST-READY")
	for _, want := range []string{"FIRMWARE kept", "IMAGE clean"} {
		if !strings.Contains(again.text(), want) {
			t.Errorf("after the restart the guest does not say %q:\n%s", want, again.text())
		}
	}
}

func checkGuestStatus(t *testing.T, m *v1alpha2.VirtualMachine) {
	status := &m.Status
	if status.Versions == nil || status.Versions.QEMU == "" || status.Versions.Libvirt == "" {
		t.Errorf("versions: %+v", status.Versions)
	}
	if status.Resources == nil || status.Resources.Memory.RuntimeOverhead == nil || status.Resources.Memory.RuntimeOverhead.Sign() <= 0 {
		t.Errorf("resources: %+v", status.Resources)
	}
	if !meta.IsStatusConditionTrue(status.Conditions, v1alpha2.ConditionMigratable) {
		t.Errorf("conditions: %+v", status.Conditions)
	}
	if len(status.BlockDeviceRefs) != 2 || !status.BlockDeviceRefs[1].Attached || status.BlockDeviceRefs[1].Target == "" {
		t.Errorf("block devices: %+v", status.BlockDeviceRefs)
	}
	if launch := status.Stats.LaunchTimeDuration; launch.VirtualMachineStarting == nil {
		t.Errorf("launch times: %+v", launch)
	}
}

// TestAgentTellsOfTheGuest looks at the Debian guest of "make up", which has an
// agent.
func TestAgentTellsOfTheGuest(t *testing.T) {
	ctx := deadline(t, 6*time.Minute)
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "quickstart", Name: "hello"}}
	waitFor(ctx, t, m, "the agent is not ready", func(m *v1alpha2.VirtualMachine) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha2.ConditionAgentReady) && m.Status.GuestOSInfo != nil
	})
	if info := m.Status.GuestOSInfo; info.ID != "debian" || info.VersionID != "13" || info.KernelRelease == "" || info.Machine != "x86_64" {
		t.Errorf("guest: %+v", info)
	}
	if launch := m.Status.Stats.LaunchTimeDuration; launch.GuestOSAgentStarting == nil || launch.VirtualMachineStarting == nil {
		t.Errorf("launch times: %+v", launch)
	}
}

// TestPlacement keeps two machines apart, and has one that fits nowhere until it is
// corrected.
func TestPlacement(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	nowhere := placedMachine(ctx, t, namespace, "nowhere", "lost", "nodeSelector: {zone: nowhere}")
	apart := `affinity:
    virtualMachineAndPodAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: pair}}}`
	one := placedMachine(ctx, t, namespace, "one", "pair", apart)
	two := placedMachine(ctx, t, namespace, "two", "pair", apart)
	waitPhase(ctx, t, one, v1alpha2.MachineRunning)
	waitPhase(ctx, t, two, v1alpha2.MachineRunning)
	if one.Status.NodeName == two.Status.NodeName {
		t.Errorf("both are on %s", one.Status.NodeName)
	}
	waitFor(ctx, t, nowhere, "does not say that no node fits", func(m *v1alpha2.VirtualMachine) bool {
		running := meta.FindStatusCondition(m.Status.Conditions, v1alpha2.ConditionRunning)
		return m.Status.Phase == v1alpha2.MachinePending && running != nil && running.Reason == v1alpha2.ReasonPodNotStarted &&
			strings.Contains(running.Message, "No node can take the machine")
	})
	refused := one.DeepCopy()
	refused.Spec.NodeSelector = map[string]string{"zone": "not a value"}
	if err := kube.Update(ctx, refused, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "spec.nodeSelector") {
		t.Errorf("a selector that no node can match: %v", err)
	}
	// Its guest was made with the selector; it has not begun, so that nobody has to
	// restart anything.
	before := nowhere.DeepCopy()
	nowhere.Spec.NodeSelector = nil
	if err := kube.Patch(ctx, nowhere, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	waitPhase(ctx, t, nowhere, v1alpha2.MachineRunning)
}

// placedMachine has an empty disk: where it runs is seen without its guest doing
// anything.
func placedMachine(ctx context.Context, t *testing.T, namespace, name, app, placement string) *v1alpha2.VirtualMachine {
	t.Helper()
	create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %s}
spec:
  persistentVolumeClaim: {size: 16Mi}
`, name), &v1alpha2.VirtualDisk{})
	return create(ctx, t, namespace, fmt.Sprintf(`
metadata: {name: %[1]s, labels: {app: %[2]s}}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 1, coreFraction: 5%%}
  memory: {size: 64Mi}
  terminationGracePeriodSeconds: 0
  blockDeviceRefs: [{kind: VirtualDisk, name: %[1]s}]
  %[3]s
`, name, app, placement), &v1alpha2.VirtualMachine{})
}
