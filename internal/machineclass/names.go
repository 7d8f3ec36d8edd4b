// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"fmt"
	"strings"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// NameFor is the class that a machine has: the one that its spec names, else the
// default class that it was given, which stays its class when another one becomes the
// default. It is empty for a machine that was given none yet.
func NameFor(machine *v1alpha2.VirtualMachine) string {
	if name := machine.Spec.VirtualMachineClassName; name != "" {
		return name
	}
	return machine.Status.VirtualMachineClassName
}

// Shown lists the first few names and says how many there are beside them.
func Shown(names []string, limit int) string {
	shown := names[:min(len(names), limit)]
	text := strings.Join(shown, ", ")
	if more := len(names) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
