// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"bytes"
	"encoding/json"
	"strings"

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
func pendingChanges(started, now *v1alpha2.VirtualMachineSpec) ([]v1alpha2.RestartAwaitingChange, error) {
	before, err := fieldValues(started)
	if err != nil {
		return nil, err
	}
	after, err := fieldValues(kubevirt.MaskedSpec(now))
	if err != nil {
		return nil, err
	}
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
	return changes, nil
}

// fieldValues is the spec as generic JSON, whose maps are written with sorted
// keys: equal values give equal bytes.
func fieldValues(spec *v1alpha2.VirtualMachineSpec) (map[string]any, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	var values map[string]any
	err = json.Unmarshal(raw, &values)
	return values, err
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
	if err != nil {
		return nil
	}
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
