// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// From the creation of a machine until its guest runs the controllers write five
// times, and after that nothing.
func TestWritesUntilTheGuestRuns(t *testing.T) {
	w := newWorld(t, "10.66.1.0/24")
	w.createDisk("web")
	w.writes.take()
	machine := w.machine("web")
	w.create(machine)
	w.waitForPhase(machine, "Running")
	// A cache that is behind may have something made twice; the server refuses the
	// second and nothing is written.
	writes := slices.DeleteFunc(w.writes.take(), func(write string) bool { return strings.HasSuffix(write, " 409") })
	t.Logf("%d writes:\n%s", len(writes), strings.Join(writes, "\n"))
	if len(writes) > 5 {
		t.Errorf("%d writes, want at most 5", len(writes))
	}

	// Events of all kinds arrive and change nothing.
	time.Sleep(500 * time.Millisecond)
	steady := w.writes.take()
	for range 3 {
		update(w, w.engineMachine("web"), func(m *virtv1.VirtualMachine) {
			metav1.SetMetaDataAnnotation(&m.ObjectMeta, "example.org/touched", time.Now().String())
		})
		time.Sleep(100 * time.Millisecond)
	}
	if steady = append(steady, w.writes.take()...); len(steady) > 0 {
		t.Errorf("writes in steady state:\n%s", strings.Join(steady, "\n"))
	}
	if machine.Status.IPAddress != "10.66.1.1" || machine.Status.NodeName != engine.Node {
		t.Errorf("shows address %q on node %q", machine.Status.IPAddress, machine.Status.NodeName)
	}
	w.waitForEvents("web", "Starting", "Running")
}

// Creating what is missing is enough to go on, whatever is missing and in
// whatever order it comes.
func TestMissingDependencies(t *testing.T) {
	w := newWorld(t, "10.66.2.0/24")
	machine := w.machine("web")
	machine.Spec.VirtualMachineClassName = w.class + "-other"
	machine.Spec.VirtualMachineIPAddressName = "fixed"
	machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Kind: "Secret", Name: "init"}}
	w.create(machine)
	w.waitForCondition(machine, "VirtualMachineClassReady", "VirtualMachineClassNotReady", "VirtualMachineClass "+w.class+"-other not found")
	w.waitForCondition(machine, "BlockDevicesReady", "BlockDevicesNotReady", "VirtualDisk "+w.namespace+"/web not found: create it or correct spec.blockDeviceRefs[0].name.")
	w.waitForCondition(machine, "ProvisioningReady", "ProvisioningNotReady", "Secret "+w.namespace+"/init not found")
	w.waitForCondition(machine, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady", "VirtualMachineIPAddress "+w.namespace+"/fixed not found")
	w.waitForCondition(machine, "Ready", "DependenciesNotReady", "")
	if machine.Status.Phase != "Pending" {
		t.Errorf("phase %s", machine.Status.Phase)
	}

	wrong := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "init"}, StringData: map[string]string{"userData": "#cloud-config"}}
	w.create(wrong)
	w.waitForCondition(machine, "ProvisioningReady", "ProvisioningNotReady", "has the type Opaque")
	w.delete(wrong)
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "init"},
		Type:       "provisioning.virtualization.deckhouse.io/cloud-init",
		StringData: map[string]string{"userData": "#cloud-config"},
	})
	w.waitForCondition(machine, "ProvisioningReady", "ProvisioningReady", "")
	w.create(&v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "fixed"},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: "10.66.2.77"},
	})
	w.waitForCondition(machine, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressReady", "10.66.2.77")
	w.createDisk("web")
	w.waitForCondition(machine, "BlockDevicesReady", "BlockDevicesReady", "")
	w.class += "-other"
	w.createClass()
	w.waitForPhase(machine, "Running")
	if machine.Status.IPAddress != "10.66.2.77" || machine.Status.VirtualMachineIPAddressName != "fixed" {
		t.Errorf("address %s of %s", machine.Status.IPAddress, machine.Status.VirtualMachineIPAddressName)
	}
}

func TestRunPolicyOfARunningMachine(t *testing.T) {
	w := newWorld(t, "10.66.3.0/24")
	machine := w.createRunning("web")
	address := machine.Status.IPAddress
	setPolicy := func(policy v1alpha2.RunPolicy) {
		update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = policy })
	}

	setPolicy("AlwaysOff")
	w.waitForPhase(machine, "Stopped")
	w.waitForCondition(machine, "Ready", "Stopped", "runPolicy is AlwaysOff")
	w.waitGone(w.guest("web"))
	if machine.Status.IPAddress != address {
		t.Errorf("a stopped machine has the address %q, not %q", machine.Status.IPAddress, address)
	}
	setPolicy("AlwaysOn")
	w.waitForPhase(machine, "Running")

	guest := w.guest("web")
	wait(w, guest, "a uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != "" })
	first := guest.UID
	w.engine.End(t, "web", virtv1.Succeeded)
	wait(w, guest, "another uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != first })
	w.waitForPhase(machine, "Running")

	setPolicy("AlwaysOnUnlessStoppedManually")
	wait(w, w.engineMachine("web"), "the strategy", func(m *virtv1.VirtualMachine) bool {
		return m.Spec.RunStrategy != nil && *m.Spec.RunStrategy == "RerunOnFailure" && m.Status.RunStrategy == "RerunOnFailure"
	})
	w.engine.End(t, "web", virtv1.Failed)
	wait(w, guest, "yet another uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != first })
	w.waitForPhase(machine, "Running")
	wait(w, guest, "a running guest", func(g *virtv1.VirtualMachineInstance) bool { return g.Status.Phase == virtv1.Running })
	w.engine.End(t, "web", virtv1.Succeeded)
	w.waitForPhase(machine, "Stopped")
	w.waitForCondition(machine, "Ready", "Stopped", "shut down from inside")
}

// Off and on again in a hurry: the machine is not left off.
func TestSwitchingOffAndOnAtOnce(t *testing.T) {
	w := newWorld(t, "10.66.9.0/24")
	machine := w.createRunning("web")
	guest := w.guest("web")
	wait(w, guest, "a uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != "" })
	uid := guest.UID
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" })
	wait(w, guest, "a deletion", func(g *virtv1.VirtualMachineInstance) bool { return g.DeletionTimestamp != nil })
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOnUnlessStoppedManually" })
	wait(w, guest, "another uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != uid })
	w.waitForPhase(machine, "Running")
}

func TestManualAndAlwaysOffDoNotStart(t *testing.T) {
	w := newWorld(t, "10.66.4.0/24")
	for _, policy := range []v1alpha2.RunPolicy{"Manual", "AlwaysOff"} {
		name := strings.ToLower(string(policy))
		w.createDisk(name)
		machine := w.machine(name)
		machine.Spec.RunPolicy = policy
		w.create(machine)
		w.waitForPhase(machine, "Stopped")
		w.waitForCondition(machine, "Ready", "Stopped", "")
		time.Sleep(200 * time.Millisecond)
		w.waitGone(w.guest(name))
	}
}

// A change of a running machine does not touch its guest; it is shown as pending
// and applied at the next start.
func TestChangeOfARunningMachine(t *testing.T) {
	w := newWorld(t, "10.66.5.0/24")
	machine := w.createRunning("web")
	guest := w.guest("web")
	wait(w, guest, "a uid", func(g *virtv1.VirtualMachineInstance) bool { return g.UID != "" })
	uid := guest.UID

	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.CPU.Cores = 2 })
	w.waitForCondition(machine, "AwaitingRestartToApplyConfiguration", "ChangesPendingRestart", "cpu.cores")
	if len(machine.Status.RestartAwaitingChanges) != 1 || string(machine.Status.RestartAwaitingChanges[0].DesiredValue) != "2" {
		t.Errorf("pending changes %+v", machine.Status.RestartAwaitingChanges)
	}
	w.goesQuiet()
	wait(w, guest, "itself", func(g *virtv1.VirtualMachineInstance) bool { return g.UID == uid && g.Status.Phase == virtv1.Running })

	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" })
	w.waitForPhase(machine, "Stopped")
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOn" })
	w.waitForPhase(machine, "Running")
	if machine.Status.Resources == nil || machine.Status.Resources.CPU.Cores != 2 || len(machine.Status.RestartAwaitingChanges) > 0 {
		t.Errorf("after the restart: %+v, pending %+v", machine.Status.Resources, machine.Status.RestartAwaitingChanges)
	}
}

// What the engine refuses is shown at once, the running guest stays, and
// correcting the input is enough.
func TestRefusedByTheEngine(t *testing.T) {
	w := newWorld(t, "10.66.6.0/24")
	w.createDisk("web")
	machine := w.machine("web")
	machine.Spec.PriorityClassName = engine.RefusedPriorityClass
	w.create(machine)
	w.waitForCondition(machine, "ConfigurationApplied", "ConfigurationNotApplied", "the engine refuses this")
	w.waitForCondition(machine, "Ready", "InternalVirtualMachineError", "the engine refuses this")
	if machine.Status.Phase != "Pending" {
		t.Errorf("phase %s", machine.Status.Phase)
	}
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.PriorityClassName = "" })
	w.waitForPhase(machine, "Running")
	if condition := w.condition(machine, "ConfigurationApplied"); condition != nil {
		t.Errorf("still shows %+v", condition)
	}
}

// Switching a machine off works when what it depends on is gone.
func TestSwitchingOffWithoutDependencies(t *testing.T) {
	w := newWorld(t, "10.66.7.0/24")
	machine := w.createRunning("web")
	w.delete(&v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{Name: w.class}})
	w.waitForCondition(machine, "VirtualMachineClassReady", "VirtualMachineClassNotReady", "not found")
	if machine.Status.Phase != "Running" {
		t.Errorf("phase %s", machine.Status.Phase)
	}
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = "AlwaysOff" })
	w.waitForPhase(machine, "Stopped")
}

func TestDeletion(t *testing.T) {
	orders := map[string]struct {
		cidr  string
		order func(w *world, machine *v1alpha2.VirtualMachine)
	}{
		"machine": {"10.66.20.0/24", func(w *world, machine *v1alpha2.VirtualMachine) { w.delete(machine) }},
		"claim first": {"10.66.21.0/24", func(w *world, machine *v1alpha2.VirtualMachine) {
			w.delete(&v1alpha2.VirtualMachineIPAddress{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: machine.Status.VirtualMachineIPAddressName}})
			w.delete(machine)
		}},
		"engine first": {"10.66.22.0/24", func(w *world, machine *v1alpha2.VirtualMachine) {
			w.delete(w.engineMachine(machine.Name))
			w.delete(machine)
		}},
		"everything at once": {"10.66.23.0/24", func(w *world, machine *v1alpha2.VirtualMachine) {
			w.delete(&v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: machine.Name}})
			w.delete(&v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{Name: w.class}})
			w.delete(w.guest(machine.Name))
			w.delete(machine)
		}},
	}
	for name, test := range orders {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.cidr)
			machine := w.createRunning("web")
			lease := &v1alpha2.VirtualMachineIPAddressLease{ObjectMeta: metav1.ObjectMeta{
				Name: "ip-" + strings.ReplaceAll(machine.Status.IPAddress, ".", "-"),
			}}
			claim := &v1alpha2.VirtualMachineIPAddress{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: machine.Status.VirtualMachineIPAddressName}}
			test.order(w, machine)
			w.waitGone(machine, w.engineMachine("web"), w.guest("web"), claim)
			wait(w, lease, "released", func(l *v1alpha2.VirtualMachineIPAddressLease) bool { return l.Status.Phase == "Released" })
			if ref := lease.Spec.VirtualMachineIPAddressRef; ref.Name != "" || ref.Namespace != w.namespace {
				t.Errorf("the released lease refers to %+v", ref)
			}
			pods := &corev1.PodList{}
			if err := w.client.List(w.ctx, pods, client.InNamespace(w.namespace)); err != nil || len(pods.Items) > 0 {
				t.Errorf("%d pods left, %v", len(pods.Items), err)
			}
		})
	}
}

// The engine's object is ours: whoever deletes it or changes it does so in vain.
func TestEngineObjectIsRestored(t *testing.T) {
	w := newWorld(t, "10.66.8.0/24")
	machine := w.createRunning("web")
	rendered := w.engineMachine("web")
	wait(w, rendered, "a uid", func(m *virtv1.VirtualMachine) bool { return m.UID != "" })
	uid := rendered.UID
	update(w, rendered, func(m *virtv1.VirtualMachine) { *m.Spec.RunStrategy = virtv1.RunStrategyHalted })
	wait(w, rendered, "its strategy back", func(m *virtv1.VirtualMachine) bool { return *m.Spec.RunStrategy == virtv1.RunStrategyRerunOnFailure })
	w.delete(rendered)
	wait(w, rendered, "another uid", func(m *virtv1.VirtualMachine) bool { return m.UID != uid })
	w.waitForPhase(machine, "Running")
}
