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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// fixedAddress is far from those that are given away by themselves.
const fixedAddress = "10.66.10.231"

// TestAddresses leads one address through its life: a claim of the user's, a machine
// that comes and goes, a second machine, and another namespace that wants it, too.
// Ranges are IPv4: KubeVirt's bridge tells guests no other addresses.
func TestAddresses(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	diskOfTiny(ctx, t, namespace, "root")
	claim := fixedClaim(ctx, t, namespace, "fixed")
	m := fixedMachine(ctx, t, namespace, "web", "AlwaysOnUnlessStoppedManually")
	waitReady(ctx, t, m)
	expectUser(ctx, t, claim, "web")
	if pod := launcher(ctx, t, m); pod.Status.PodIP != fixedAddress || m.Status.IPAddress != fixedAddress {
		t.Fatalf("the pod has %s, the machine %s", pod.Status.PodIP, m.Status.IPAddress)
	}

	t.Run("a second machine is refused", func(t *testing.T) { checkSecondMachine(ctx, t, namespace) })
	t.Run("a claim changes no more", func(t *testing.T) { checkFrozen(ctx, t, claim) })
	t.Run("a lease that is lost comes back", func(t *testing.T) { checkLostLease(ctx, t) })
	t.Run("the address moves along", func(t *testing.T) { checkMovesAlong(ctx, t, m) })
	t.Run("the address outlives a stop", func(t *testing.T) {
		setRunPolicy(ctx, t, m, v1alpha2.RunPolicyAlwaysOff)
		waitPhase(ctx, t, m, v1alpha2.MachineStopped)
		expectUser(ctx, t, claim, "web")
		if m.Status.IPAddress != fixedAddress {
			t.Errorf("it is %q", m.Status.IPAddress)
		}
	})
	t.Run("the user's claim outlives its machine", func(t *testing.T) {
		remove(ctx, t, m)
		waitGone(ctx, t, m)
		expectUser(ctx, t, claim, "")
		m = fixedMachine(ctx, t, namespace, "again", "AlwaysOff")
		waitPhase(ctx, t, m, v1alpha2.MachineStopped)
		expectUser(ctx, t, claim, "again")
	})
	t.Run("a claim in use is protected", func(t *testing.T) {
		remove(ctx, t, claim)
		waitFor(ctx, t, claim, "does not say why it stays", func(c *v1alpha2.VirtualMachineIPAddress) bool {
			return says(c, "VirtualMachine "+namespace+"/again uses the address")
		})
		remove(ctx, t, m)
		waitGone(ctx, t, m, claim)
	})
	t.Run("a released address is kept for its namespace", func(t *testing.T) { checkReclaimed(ctx, t, namespace) })
}

func fixedClaim(ctx context.Context, t *testing.T, namespace, name string) *v1alpha2.VirtualMachineIPAddress {
	t.Helper()
	claim := create(ctx, t, namespace, fmt.Sprintf("metadata: {name: %s}\nspec: {type: Static, staticIP: %s}\n", name, fixedAddress), &v1alpha2.VirtualMachineIPAddress{})
	return waitReady(ctx, t, claim)
}

func fixedMachine(ctx context.Context, t *testing.T, namespace, name, runPolicy string) *v1alpha2.VirtualMachine {
	t.Helper()
	return create(ctx, t, namespace, fixedManifest(name, runPolicy), &v1alpha2.VirtualMachine{})
}

func fixedManifest(name, runPolicy string) string {
	return fmt.Sprintf(`
metadata: {name: %s}
spec:
  virtualMachineClassName: generic
  virtualMachineIPAddressName: fixed
  runPolicy: %s
  cpu: {cores: 1, coreFraction: 10%%}
  memory: {size: 256Mi}
  terminationGracePeriodSeconds: 10
  blockDeviceRefs: [{kind: VirtualDisk, name: root}]
`, name, runPolicy)
}

// expectUser waits until the claim shows the machine that uses it, and nothing else of
// it has changed.
func expectUser(ctx context.Context, t *testing.T, claim *v1alpha2.VirtualMachineIPAddress, machine string) {
	t.Helper()
	phase := v1alpha2.IPAddressAttached
	if machine == "" {
		phase = v1alpha2.IPAddressBound
	}
	waitFor(ctx, t, claim, "is not used by "+machine, func(c *v1alpha2.VirtualMachineIPAddress) bool {
		return c.Status.VirtualMachineName == machine && c.Status.Phase == phase && c.Status.Address == fixedAddress
	})
}

func fixedLease(ctx context.Context, t *testing.T) *v1alpha2.VirtualMachineIPAddressLease {
	t.Helper()
	lease := &v1alpha2.VirtualMachineIPAddressLease{ObjectMeta: metav1.ObjectMeta{Name: "ip-" + strings.ReplaceAll(fixedAddress, ".", "-")}}
	if err := kube.Get(ctx, client.ObjectKeyFromObject(lease), lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

func checkSecondMachine(ctx context.Context, t *testing.T, namespace string) {
	message := refusal(ctx, t, &v1alpha2.VirtualMachine{}, namespace, fixedManifest("second", "AlwaysOff"))
	for _, word := range []string{"spec.virtualMachineIPAddressName", "VirtualMachineIPAddress fixed is used by VirtualMachine web"} {
		if !strings.Contains(message, word) {
			t.Errorf("the refusal does not say %q: %s", word, message)
		}
	}
}

func checkFrozen(ctx context.Context, t *testing.T, claim *v1alpha2.VirtualMachineIPAddress) {
	changed := claim.DeepCopy()
	changed.Spec.StaticIP = "10.66.10.232"
	err := kube.Patch(ctx, changed, client.MergeFrom(claim))
	if err == nil || !strings.Contains(err.Error(), "make another VirtualMachineIPAddress") {
		t.Errorf("got %v", err)
	}
	for address, word := range map[string]string{
		"10.66.10.0": "address of the network", "10.66.10.255": "broadcast", "192.0.2.1": "outside the ranges", fixedAddress: "is taken by VirtualMachineIPAddress fixed",
	} {
		manifest := fmt.Sprintf("metadata: {name: other}\nspec: {type: Static, staticIP: %s}\n", address)
		if message := refusal(ctx, t, &v1alpha2.VirtualMachineIPAddress{}, claim.Namespace, manifest); !strings.Contains(message, "spec.staticIP") || !strings.Contains(message, word) {
			t.Errorf("%s: %s", address, message)
		}
	}
}

func checkLostLease(ctx context.Context, t *testing.T) {
	lease := fixedLease(ctx, t)
	lost := lease.UID
	remove(ctx, t, lease)
	waitFor(ctx, t, lease, "did not come back", func(l *v1alpha2.VirtualMachineIPAddressLease) bool {
		return l.UID != lost && l.Status.Phase == v1alpha2.LeaseBound && l.Spec.VirtualMachineIPAddressRef.Name == "fixed"
	})
}

func checkMovesAlong(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) {
	waitCondition(ctx, t, m, v1alpha2.ConditionMigratable, metav1.ConditionTrue)
	node := m.Status.NodeName
	create(ctx, t, m.Namespace, "metadata: {name: move}\nspec: {type: Migrate, virtualMachineName: web}\n", &v1alpha2.VirtualMachineOperation{})
	waitMoved(ctx, t, m, node)
	if m.Status.IPAddress != fixedAddress {
		t.Errorf("the address is %s", m.Status.IPAddress)
	}
}

// checkReclaimed finds the lease released, not to be had from another namespace, and
// the very same again when its own namespace asks for it.
func checkReclaimed(ctx context.Context, t *testing.T, namespace string) {
	lease := fixedLease(ctx, t)
	released := lease.UID
	waitFor(ctx, t, lease, "is not released", func(l *v1alpha2.VirtualMachineIPAddressLease) bool {
		return l.Status.Phase == v1alpha2.LeaseReleased && l.Spec.VirtualMachineIPAddressRef.Namespace == namespace
	})
	other := newNamespace(t)
	manifest := fmt.Sprintf("metadata: {name: theirs}\nspec: {type: Static, staticIP: %s}\n", fixedAddress)
	if message := refusal(ctx, t, &v1alpha2.VirtualMachineIPAddress{}, other, manifest); !strings.Contains(message, "by another namespace") {
		t.Errorf("refused with %s", message)
	}
	claim := fixedClaim(ctx, t, namespace, "again")
	if lease = fixedLease(ctx, t); lease.UID != released || lease.Spec.VirtualMachineIPAddressRef.Name != "again" {
		t.Errorf("another lease: %+v", lease)
	}
	pinAuto(ctx, t, namespace)
	remove(ctx, t, claim)
}

// pinAuto takes any address and keeps it for good.
func pinAuto(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	claim := create(ctx, t, namespace, "metadata: {name: any}\nspec: {type: Auto}\n", &v1alpha2.VirtualMachineIPAddress{})
	waitReady(ctx, t, claim)
	address := claim.Status.Address
	pin := fmt.Sprintf(`{"spec":{"type":"Static","staticIP":%q}}`, address)
	if err := kube.Patch(ctx, claim, client.RawPatch(types.MergePatchType, []byte(pin))); err != nil {
		t.Errorf("pinning %s: %v", address, err)
	}
	waitFor(ctx, t, claim, "has lost "+address, func(c *v1alpha2.VirtualMachineIPAddress) bool {
		return c.Status.ObservedGeneration == c.Generation && c.Status.Address == address && c.Status.Phase == v1alpha2.IPAddressBound
	})
}
