// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"strings"
	"testing"
)

// few machines are enough to see what each of them takes.
const few = 10

// Processor time is not the same twice, but what it is spent on is: how often a
// controller is called for a machine, and what is asked of the API server.
func TestWorkPerMachine(t *testing.T) {
	c := newCluster(t)
	c.createMachines(few)
	program := startProgram(t, order{Namespace: c.namespace + "-module", Range: addresses})
	c.waitCalm(few)
	done := program.stop().work
	t.Log(done.per(few))

	// The engine alone changes its objects a dozen times until a guest runs. All others
	// have hardly anything to do with a machine that starts.
	atMost := map[string]int{
		"virtualmachine": 25 * few, "virtualdisk": 6 * few, "virtualmachineipaddress": 9 * few, "virtualmachineipaddresslease": 2 * few,
		// Once for the machine and once for its guest.
		"convergence": 2 * few,
		// Of all machines together.
		"virtualmachineclass": 5,
	}
	for controller, reconciles := range done.Reconciles {
		if reconciles > atMost[controller] {
			t.Errorf("%d reconciles of %s for %d machines, want at most %d", reconciles, controller, few, atMost[controller])
		}
	}
	writes, reads, events := done.sums()
	// The claim, its lease, its status, the engine's machine, the machine's status, the
	// disk's; and once more the disk's, and twice the machine's, when the start is slow.
	if writes > 9*few {
		t.Errorf("%d writes for %d machines", writes, few)
	}
	if reads > few {
		t.Errorf("%d reads past the cache for %d machines", reads, few)
	}
	// An address, a start, a guest that runs.
	if events > 4*few {
		t.Errorf("%d events for %d machines", events, few)
	}

	again := startProgram(t, order{Namespace: c.namespace + "-module", Range: addresses})
	c.waitCalm(0)
	done = again.stop().work
	if writes, reads, events := done.sums(); writes+reads+events > 0 {
		t.Errorf("started again where nothing is left to do:\n%s", done.per(few))
	}
}

// sums leaves out the lists and watches that fill the cache, and what is done once for
// the class of all machines.
func (w work) sums() (writes, reads, events int) {
	for name, count := range w.Requests {
		verb, resource, _ := strings.Cut(name, " ")
		switch {
		case strings.HasPrefix(resource, "virtualmachineclasses"), verb == "list", verb == "watch":
		case resource == "events":
			events += count
		case verb == "get":
			reads += count
		default:
			writes += count
		}
	}
	return writes, reads, events
}

func TestSums(t *testing.T) {
	writes, reads, events := work{Requests: map[string]int{
		"create events": 7, "patch virtualmachines/status": 2, "create virtualmachineipaddresses": 1,
		"get secrets": 3, "list pods": 5, "watch pods": 5, "patch virtualmachineclasses/status": 11,
	}}.sums()
	if writes != 3 || reads != 3 || events != 7 {
		t.Errorf("%d writes, %d reads, %d events", writes, reads, events)
	}
}
