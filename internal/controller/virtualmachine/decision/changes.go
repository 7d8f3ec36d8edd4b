// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"bytes"
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// changeClass says when a change of a field takes effect. No change is refused
// because the machine is there already: its next start can make it another.
type changeClass string

const (
	// changeLive takes effect while the guest runs.
	changeLive changeClass = "Live"
	// changeRestart takes effect at the next start of the guest.
	changeRestart changeClass = "Restart"
)

const (
	pathCores   = "cpu.cores"
	pathDevices = "blockDeviceRefs"
	pathMemory  = "memory.size"
)

// fieldClass is a row of the table.
type fieldClass struct {
	path  string
	class changeClass
	// waits tells why this time a Live change has to wait for a restart all the same;
	// empty when it does not. A field without it never waits.
	waits func(o Observed) string
}

// fieldClasses is the one table of what a change of each field of the spec needs;
// the one in the user guide is checked against it. Fields are compared as wholes;
// their order is the order in which pending changes are shown.
var fieldClasses = []fieldClass{
	{"affinity", changeLive, whyAffinityWaits},
	{pathDevices, changeLive, whyDevicesWait},
	{"bootloader", changeRestart, nil},
	{"cpu.coreFraction", changeRestart, nil},
	{pathCores, changeLive, whyCoresWait},
	{"disruptions", changeLive, nil},
	{"enableParavirtualization", changeRestart, nil},
	{"liveMigrationPolicy", changeLive, nil},
	{pathMemory, changeLive, whyMemoryWaits},
	{"nodeSelector", changeLive, whyNodeSelectorWaits},
	{"osType", changeRestart, nil},
	{"priorityClassName", changeRestart, nil},
	{"provisioning", changeRestart, nil},
	{"runPolicy", changeLive, nil},
	{"terminationGracePeriodSeconds", changeRestart, nil},
	{"tolerations", changeLive, nil},
	{"topologySpreadConstraints", changeRestart, nil},
	{"virtualMachineClassName", changeRestart, nil},
	{"virtualMachineIPAddressName", changeRestart, nil},
}

// pendingChange is a change that waits for a restart, and why if that is not always
// so.
type pendingChange struct {
	v1alpha2.RestartAwaitingChange
	why string
}

// pendingChanges compares what the guest is to what the spec says now. Started is
// what the guest was started with; where it has changed since, the guest itself is
// asked. Values that are secret come masked.
func pendingChanges(started *v1alpha2.VirtualMachineSpec, o Observed) []pendingChange {
	before, after := fieldValues(currentSpec(started, o)), fieldValues(kubevirt.MaskedSpec(&o.Machine.Spec))
	var changes []pendingChange
	for _, field := range fieldClasses {
		current, desired := lookup(before, field.path), lookup(after, field.path)
		if bytes.Equal(current, desired) || (field.class == changeLive && field.waits == nil) {
			continue
		}
		var why string
		if field.waits != nil {
			if why = field.waits(o); why == "" {
				continue
			}
		}
		changes = append(changes, pendingChange{why: why, RestartAwaitingChange: v1alpha2.RestartAwaitingChange{
			Operation:    operationOf(current, desired),
			Path:         field.path,
			CurrentValue: current,
			DesiredValue: desired,
		}})
	}
	return changes
}

// currentSpec is the started spec with what the guest was given since.
func currentSpec(started *v1alpha2.VirtualMachineSpec, o Observed) *v1alpha2.VirtualMachineSpec {
	out := started.DeepCopy()
	out.BlockDeviceRefs = o.guestRefs(started.BlockDeviceRefs)
	if cores := guestCores(o.Guest); cores > 0 {
		out.CPU.Cores = cores
	}
	if memory := guestMemory(o.Guest); memory != nil {
		out.Memory.Size = memory.DeepCopy()
	}
	return out
}

// summary is what the condition says about the pending changes.
func summary(changes []pendingChange) string {
	var parts []string
	for _, change := range changes {
		part := change.Path
		if change.why != "" {
			part += " (" + change.why + ")"
		}
		parts = append(parts, part)
	}
	return "These changes wait for a restart of the machine: " + strings.Join(parts, ", ") + "."
}

// fieldValues is the spec as generic JSON, whose maps are written with sorted
// keys: equal values give equal bytes.
func fieldValues(spec *v1alpha2.VirtualMachineSpec) map[string]any {
	// A struct of the API that came in as JSON goes out as JSON.
	values, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	utilruntime.Must(err)
	return values
}

// lookup gives the JSON of the field at a path, or nothing when it is not set.
func lookup(values map[string]any, path string) json.RawMessage {
	var value any = values
	for _, name := range strings.Split(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		if value, ok = object[name]; !ok {
			return nil
		}
	}
	raw, err := json.Marshal(value)
	utilruntime.Must(err)
	return raw
}

func operationOf(current, desired json.RawMessage) v1alpha2.ChangeOperation {
	switch {
	case current == nil:
		return v1alpha2.ChangeAdd
	case desired == nil:
		return v1alpha2.ChangeRemove
	default:
		return v1alpha2.ChangeReplace
	}
}
