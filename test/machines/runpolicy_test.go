// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var policies = []v1alpha2.RunPolicy{"AlwaysOn", "AlwaysOnUnlessStoppedManually", "Manual", "AlwaysOff"}

// policyTable is what every event comes to under every policy. It is the table of
// the user guide.
var policyTable = []struct {
	event string
	want  [4]string
}{
	{"the machine is created", [4]string{"started", "started", "off", "off"}},
	{"the guest shuts down", [4]string{"restarted", "off", "off", "—"}},
	{"the guest reboots", [4]string{"restarted", "runs on", "runs on", "—"}},
	{"the emulator crashes", [4]string{"restarted", "restarted", "off", "—"}},
	{"the pod is deleted", [4]string{"restarted", "restarted", "off", "—"}},
	{"the node is lost", [4]string{"restarted", "restarted", "off", "—"}},
	{"Start", [4]string{"refused", "started", "started", "refused"}},
	{"Stop", [4]string{"refused", "off", "off", "refused"}},
	{"Restart", [4]string{"restarted", "restarted", "restarted", "refused"}},
	{"the policy is set while the guest runs", [4]string{"runs on", "runs on", "runs on", "off"}},
	{"the policy is set while the machine is off", [4]string{"started", "started", "off", "off"}},
}

func TestPolicyTableIsTheOneOfTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/USER_GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := "\n" + string(guide)
	for _, row := range policyTable {
		if line := "\n| " + row.event + " | " + strings.Join(row.want[:], " | ") + " |\n"; !strings.Contains(lines, line) {
			t.Errorf("docs/USER_GUIDE.md has no row %q", strings.TrimSpace(line))
		}
	}
}

// happenings let the events of the table happen to a machine.
var happenings = map[string]func(w *world, machine *v1alpha2.VirtualMachine){
	"the guest shuts down": func(w *world, m *v1alpha2.VirtualMachine) { w.engine.End(w.t, m.Name, virtv1.Succeeded) },
	"the guest reboots":    func(w *world, m *v1alpha2.VirtualMachine) { w.engine.Reboot(w.t, m.Name) },
	"the emulator crashes": func(w *world, m *v1alpha2.VirtualMachine) { w.engine.End(w.t, m.Name, virtv1.Failed) },
	"the pod is deleted":   func(w *world, m *v1alpha2.VirtualMachine) { w.engine.DeletePod(w.t, m.Name) },
	// When it is certain that the node is lost, the engine shows the guest as failed.
	"the node is lost": func(w *world, m *v1alpha2.VirtualMachine) { w.engine.End(w.t, m.Name, virtv1.Failed) },
	"Start":            func(w *world, m *v1alpha2.VirtualMachine) { w.judged(w.order(m.Name, "Start")) },
	"Stop":             func(w *world, m *v1alpha2.VirtualMachine) { w.judged(w.order(m.Name, "Stop")) },
	"Restart":          func(w *world, m *v1alpha2.VirtualMachine) { w.judged(w.order(m.Name, "Restart")) },
}

// judged waits until an operation has ended.
func (w *world) judged(operation *v1alpha2.VirtualMachineOperation) {
	w.t.Helper()
	wait(w, operation, "an end", func(o *v1alpha2.VirtualMachineOperation) bool {
		return o.Status.Phase == "Completed" || o.Status.Phase == "Failed"
	})
}

func TestRunPolicies(t *testing.T) {
	w := newWorld(t, "10.66.50.0/24")
	for i, policy := range policies {
		for j, row := range policyTable {
			if row.want[i] == "—" {
				continue
			}
			t.Run(string(policy)+"/"+row.event, func(t *testing.T) {
				w.t = t
				w.checkRow(fmt.Sprintf("row-%d-%d", i, j), policy, row.event, row.want[i])
			})
		}
	}
}

// checkRow brings a machine into the state in which the event can happen, lets it
// happen, and looks at what comes of it.
func (w *world) checkRow(name string, policy v1alpha2.RunPolicy, event, want string) {
	w.t.Helper()
	before := policy
	switch event {
	case "the policy is set while the guest runs":
		before = "AlwaysOnUnlessStoppedManually"
	case "the policy is set while the machine is off":
		before = "AlwaysOff"
	}
	w.createDisk(name)
	machine := w.machine(name)
	machine.Spec.RunPolicy = before
	w.create(machine)
	w.bringInto(machine, event, policy)
	first := w.uidOf(name)
	switch happen, scripted := happenings[event]; {
	case scripted:
		happen(w, machine)
	case before != policy:
		update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.RunPolicy = policy })
	}
	w.expectOutcome(machine, want, first)
	w.delete(machine)
}

// bringInto waits until the machine is what the event is about: running, or off.
func (w *world) bringInto(machine *v1alpha2.VirtualMachine, event string, policy v1alpha2.RunPolicy) {
	w.t.Helper()
	starts := machine.Spec.RunPolicy == "AlwaysOn" || machine.Spec.RunPolicy == "AlwaysOnUnlessStoppedManually"
	switch {
	case event == "the machine is created":
		return
	case !starts:
		w.waitForPhase(machine, "Stopped")
		if policy == "AlwaysOff" || event == "Start" || machine.Spec.RunPolicy == "AlwaysOff" {
			return
		}
		w.completes(w.order(machine.Name, "Start"))
	}
	w.waitForPhase(machine, "Running")
	if event == "Start" && policy == "AlwaysOnUnlessStoppedManually" {
		w.completes(w.order(machine.Name, "Stop"))
	}
}

// uidOf is the guest that a machine has; empty when it has none.
func (w *world) uidOf(name string) types.UID {
	w.t.Helper()
	guest := w.guest(name)
	err := w.client.Get(w.ctx, client.ObjectKeyFromObject(guest), guest)
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return guest.UID
}

func (w *world) expectOutcome(machine *v1alpha2.VirtualMachine, want string, first types.UID) {
	w.t.Helper()
	switch want {
	case "started":
		w.waitForPhase(machine, "Running")
	case "restarted":
		wait(w, w.guest(machine.Name), "another guest, running", func(g *virtv1.VirtualMachineInstance) bool {
			return g.UID != first && g.Status.Phase == virtv1.Running
		})
		w.waitForPhase(machine, "Running")
	case "off":
		w.waitForPhase(machine, "Stopped")
		w.waitForCondition(machine, "Ready", "Stopped", "")
	case "runs on", "refused":
		// Nothing is to happen, and nothing announces that.
		time.Sleep(200 * time.Millisecond)
		if now := w.uidOf(machine.Name); now != first {
			w.t.Errorf("guest %q became %q", first, now)
		}
	}
}
