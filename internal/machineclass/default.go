// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"strings"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// IsDefault tells whether machines that name no class get this one.
func IsDefault(class *v1alpha2.VirtualMachineClass) bool {
	return class.Annotations[v1alpha2.AnnotationDefaultClass] == "true" && class.DeletionTimestamp == nil
}

// Default is the class that machines get when they name none, or nil. Admission lets
// no second one through; where two are left from earlier the newer one counts, as
// with storage classes.
func Default(classes []v1alpha2.VirtualMachineClass) *v1alpha2.VirtualMachineClass {
	var best *v1alpha2.VirtualMachineClass
	for i := range classes {
		class := &classes[i]
		if IsDefault(class) && (best == nil || isNewer(class, best)) {
			best = class
		}
	}
	return best
}

func isNewer(a, b *v1alpha2.VirtualMachineClass) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return strings.Compare(a.Name, b.Name) < 0
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}
