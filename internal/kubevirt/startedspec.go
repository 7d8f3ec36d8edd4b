// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// EncodeSpec is the form in which a machine's spec travels with the guest that
// was started from it. Fields that apply at once are left out, and user data,
// which may hold passwords, is replaced by its digest.
func EncodeSpec(spec *v1alpha2.VirtualMachineSpec) (string, error) {
	copied := MaskedSpec(spec)
	copied.RunPolicy, copied.Disruptions, copied.LiveMigrationPolicy = "", nil, ""
	raw, err := json.Marshal(copied)
	if err != nil {
		return "", fmt.Errorf("encoding the spec: %w", err)
	}
	return string(raw), nil
}

// DecodeSpec reads what EncodeSpec wrote. It is nil when there is nothing, or
// nothing that can be read: such a guest was started by somebody else.
func DecodeSpec(annotations map[string]string) *v1alpha2.VirtualMachineSpec {
	raw, ok := annotations[v1alpha2.AnnotationLastAppliedSpec]
	if !ok {
		return nil
	}
	spec := &v1alpha2.VirtualMachineSpec{}
	if err := json.Unmarshal([]byte(raw), spec); err != nil {
		return nil
	}
	return spec
}

// MaskedSpec is a copy of the spec whose user data is replaced by its digest.
func MaskedSpec(spec *v1alpha2.VirtualMachineSpec) *v1alpha2.VirtualMachineSpec {
	copied := spec.DeepCopy()
	if p := copied.Provisioning; p != nil && p.UserData != "" {
		sum := sha256.Sum256([]byte(p.UserData))
		p.UserData = "sha256:" + hex.EncodeToString(sum[:])
	}
	return copied
}
