// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// volumeNaming says how a device's volume is named. KubeVirt makes names of
// volumes into names of containers ("volume<name>-init") for images and into
// names of the pod's volumes for disks; both have at most 63 characters.
var volumeNaming = map[v1alpha2.BlockDeviceKind]struct {
	prefix string
	budget int
}{
	v1alpha2.BlockDeviceVirtualDisk:         {prefix: "vd-", budget: 60},
	v1alpha2.BlockDeviceVirtualImage:        {prefix: "vi-", budget: 49},
	v1alpha2.BlockDeviceClusterVirtualImage: {prefix: "cvi-", budget: 48},
}

// VolumeName names the volume, and the disk, of a block device.
func VolumeName(kind v1alpha2.BlockDeviceKind, name string) string {
	naming := volumeNaming[kind]
	if len(name) <= naming.budget && len(validation.IsDNS1123Label(name)) == 0 {
		return naming.prefix + name
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	suffix := fmt.Sprintf("-%016x", hash.Sum64())
	readable := strings.ReplaceAll(name, ".", "-")
	if room := naming.budget - len(suffix); len(readable) > room {
		readable = readable[:room]
	}
	return naming.prefix + strings.TrimRight(readable, "-") + suffix
}

// Serial is the serial number that the guest sees of a device. It follows the
// object's uid, so that a disk that was deleted and made again is another disk to
// the guest. The digest is short enough for every bus and is no secret.
func Serial(uid types.UID) string {
	sum := md5.Sum([]byte(uid))
	return hex.EncodeToString(sum[:])
}

// macAddress gives the guest's card an address that stays the same over restarts;
// otherwise each start would show the guest a new card. It is locally
// administered and only seen inside the pod.
func macAddress(uid types.UID) string {
	hash := fnv.New64a()
	hash.Write([]byte(uid))
	sum := hash.Sum(nil)
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}
