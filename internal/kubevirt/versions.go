// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import "github.com/deckhouse/virtualization/api/v1alpha2"

// engineSuite is the Debian release whose emulator and library images/base-engine
// takes, and engineVersions are theirs: within a release only the third number
// changes. Stock KubeVirt shows them nowhere in its API.
const engineSuite = "trixie"

var engineVersions = v1alpha2.Versions{QEMU: "10.0", Libvirt: "11.3"}

// VersionsOf are the versions that a guest's launcher image brings, if it is the
// image of this release; otherwise they are unknown.
func VersionsOf(image, releaseImage string) (v1alpha2.Versions, bool) {
	if image == "" || image != releaseImage {
		return v1alpha2.Versions{}, false
	}
	return engineVersions, true
}
