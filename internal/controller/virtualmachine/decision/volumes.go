// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// Bind leaves only those of the other nodes that reach the volume of a claim.
func (o *Observed) Bind(claim string, reached []string) {
	left := slices.DeleteFunc(slices.Clone(o.OtherNodes), func(node string) bool { return !slices.Contains(reached, node) })
	if len(left) < len(o.OtherNodes) {
		o.OtherNodes, o.Tied = left, append(o.Tied, claim)
	}
}

// isApart tells that the running guest's node does not reach a device's volume, so that
// it cannot be plugged in there.
func (o Observed) isApart(claim string) bool { return slices.Contains(o.Apart, claim) }

// whyTied says which disks keep the guest on its node; empty when none do.
func whyTied(o Observed) string {
	if len(o.Tied) == 0 {
		return ""
	}
	return fmt.Sprintf("no other node that would take it reaches the volume of %s.", strings.Join(o.namesOf(o.Tied), ", "))
}

// namesOf calls claims by what people know them as.
func (o Observed) namesOf(claims []string) []string {
	names := map[string]string{}
	add := func(ref v1alpha2.BlockDeviceRef, claim string) {
		names[claim] = string(ref.Kind) + " " + ref.Name
	}
	for _, device := range o.Devices {
		switch {
		case device.Disk != nil:
			add(device.Ref, device.Disk.Status.Target.PersistentVolumeClaimName)
		case device.Image != nil:
			add(device.Ref, device.Image.Status.Target.PersistentVolumeClaimName)
		}
	}
	for _, attached := range o.Attachments {
		add(RefOf(attached.Attachment), resolve(attached).PersistentVolumeClaim)
	}
	var out []string
	for _, claim := range claims {
		name, known := names[claim]
		if !known {
			name = "PersistentVolumeClaim " + claim
		}
		out = append(out, name)
	}
	return out
}

// takenBy names the machine that has the device's claim; empty if nobody else has.
func (o Observed) takenBy(device kubevirt.Device) string {
	if device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk {
		return ""
	}
	return o.Taken[device.PersistentVolumeClaim]
}

// DiskClaims are the claims that the machine writes to, or wants to.
func (o Observed) DiskClaims() []string {
	var out []string
	add := func(device Device) {
		if device.Disk != nil && device.Disk.Status.Target.PersistentVolumeClaimName != "" {
			out = append(out, device.Disk.Status.Target.PersistentVolumeClaimName)
		}
	}
	for _, device := range o.Devices {
		add(device)
	}
	for _, attached := range o.Attachments {
		add(attached.Device)
	}
	return out
}

// Take notes that another machine, the writer, has a claim.
func (o *Observed) Take(claim, writer string) {
	if o.Taken == nil {
		o.Taken = map[string]string{}
	}
	o.Taken[claim] = writer
}

// WantedClaims are the claims that the engine will write to by this decision and
// that its guest does not have yet.
func WantedClaims(o Observed, decided Outcome) []string {
	if !o.GuestActive() && !startExpected(o) {
		return nil
	}
	var out []string
	for _, child := range decided.Apply {
		out = append(out, writers.Claims(child.Want)...)
	}
	if !o.GuestActive() {
		return out
	}
	have := writers.Claims(o.Guest)
	return slices.DeleteFunc(out, func(claim string) bool { return slices.Contains(have, claim) })
}
