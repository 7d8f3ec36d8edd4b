// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machines

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// pendingPaths are the fields whose changes wait for a restart.
func pendingPaths(machine *v1alpha2.VirtualMachine) string {
	var out []string
	for _, change := range machine.Status.RestartAwaitingChanges {
		out = append(out, change.Path)
	}
	return strings.Join(out, ", ")
}

// has waits until the guest has so much, on that node, and only what is named waits for
// a restart.
func (w *world) has(machine *v1alpha2.VirtualMachine, cores int32, memory, node, waits string) {
	w.t.Helper()
	wait(w, machine, memory+" on "+node+", and waiting "+waits, func(m *v1alpha2.VirtualMachine) bool {
		resources := m.Status.Resources
		return m.Status.Phase == "Running" && m.Status.NodeName == node && resources != nil && resources.CPU.Cores == cores &&
			resources.Memory.Size.String() == memory && pendingPaths(m) == waits && w.condition(m, "ConfigurationApplied") == nil
	})
}

// A running guest is given more cores and more memory, although another change waits
// for a restart; that restart then applies all of it.
func TestGrowingWhileRunning(t *testing.T) {
	w := newWorld(t, "10.66.51.0/24")
	w.engine.LetGrow()
	machine := w.createRunning("web", func(m *v1alpha2.VirtualMachine) { m.Spec.Memory.Size = resource.MustParse("1Gi") })
	first := w.guestUID()

	update(w, machine, func(m *v1alpha2.VirtualMachine) {
		m.Spec.CPU.Cores, m.Spec.TerminationGracePeriodSeconds = 2, ptr.To[int64](30)
	})
	w.has(machine, 2, "1Gi", engine.OtherNode, "terminationGracePeriodSeconds")
	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.Memory.Size = resource.MustParse("2Gi") })
	w.has(machine, 2, "2Gi", engine.Node, "terminationGracePeriodSeconds")
	if w.guestUID() != first {
		t.Error("the guest was restarted")
	}
	w.goesQuiet()

	update(w, machine, func(m *v1alpha2.VirtualMachine) { m.Spec.CPU.Cores = 1 })
	w.waitForCondition(machine, "AwaitingRestartToApplyConfiguration", "ChangesPendingRestart", "cores are not taken away from a running guest")
	w.completes(w.order("web", "Restart"))
	w.has(machine, 1, "2Gi", engine.Node, "")
}
