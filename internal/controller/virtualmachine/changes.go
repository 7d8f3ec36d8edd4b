// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"bytes"
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// changeClass says when a change of a field takes effect.
type changeClass string

const (
	// changeLive takes effect at once.
	changeLive changeClass = "Live"
	// changeRestart takes effect at the next start of the guest.
	changeRestart changeClass = "Restart"
)

// fieldClasses is the one table of what a change of each field of the spec needs.
// Fields are compared as wholes; their order is the order in which pending
// changes are shown.
var fieldClasses = []struct {
	path  string
	class changeClass
}{
	{"affinity", changeRestart},
	{"blockDeviceRefs", changeRestart},
	{"bootloader", changeRestart},
	{"cpu.coreFraction", changeRestart},
	{"cpu.cores", changeRestart},
	{"disruptions", changeLive},
	{"enableParavirtualization", changeRestart},
	{"liveMigrationPolicy", changeLive},
	{"memory.size", changeRestart},
	{"nodeSelector", changeRestart},
	{"osType", changeRestart},
	{"priorityClassName", changeRestart},
	{"provisioning", changeRestart},
	{"runPolicy", changeLive},
	{"terminationGracePeriodSeconds", changeRestart},
	{"tolerations", changeRestart},
	{"topologySpreadConstraints", changeRestart},
	{"virtualMachineClassName", changeRestart},
	{"virtualMachineIPAddressName", changeRestart},
}

// pendingChanges compares the spec that the guest was started with to the one
// that the machine has now. Values that are secret come masked.
func pendingChanges(started, now *v1alpha2.VirtualMachineSpec) []v1alpha2.RestartAwaitingChange {
	before, after := fieldValues(started), fieldValues(kubevirt.MaskedSpec(now))
	var changes []v1alpha2.RestartAwaitingChange
	for _, field := range fieldClasses {
		current, desired := lookup(before, field.path), lookup(after, field.path)
		if field.class == changeLive || bytes.Equal(current, desired) {
			continue
		}
		changes = append(changes, v1alpha2.RestartAwaitingChange{
			Operation:    operationOf(current, desired),
			Path:         field.path,
			CurrentValue: current,
			DesiredValue: desired,
		})
	}
	return changes
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
