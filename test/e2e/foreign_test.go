// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// vdi is an image in VirtualBox's format of a disk of that many MiB, all of it data.
func vdi(mebibytes int) []byte {
	const block = 1 << 20
	file := make([]byte, (1+mebibytes)*block)
	disk := file[block:]
	_, _ = rand.NewChaCha8([32]byte{2}).Read(disk)
	disk[510], disk[511] = 0x55, 0xaa
	copy(file, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le := binary.LittleEndian
	for at, value := range map[int]uint32{
		0x40: 0xbeda107f, 0x44: 0x00010001, 0x48: 0x190, 0x4c: 1, 0x154: 512, 0x158: block, 0x168: 512,
		0x178: block, 0x180: uint32(mebibytes), 0x184: uint32(mebibytes),
	} {
		le.PutUint32(file[at:], value)
	}
	le.PutUint64(file[0x170:], uint64(mebibytes)*block)
	for n := range mebibytes {
		le.PutUint32(file[512+4*n:], uint32(n))
	}
	return file
}

// TestForeignFormat brings an image that only QEMU reads onto a volume, and kills the
// importer in the middle: what was converted is neither read nor converted again.
func TestForeignFormat(t *testing.T) {
	const size = 320
	ctx := deadline(t, 3*time.Minute)
	namespace := newNamespace(t)
	server := serveContentSlowly(t, vdi(size))
	disk := diskFrom(ctx, t, namespace, "foreign", fmt.Sprintf("{type: HTTP, http: {url: %q}}", server.url))
	waitFor(ctx, t, disk, "made no progress", func(vd *v1alpha2.VirtualDisk) bool { return percent(vd.Status.Progress) >= 60 })
	before := server.sent.Load()
	killImporters(ctx, t)
	waitReady(ctx, t, client.Object(disk))
	t.Logf("%d MiB of %d were sent, %d of them before the kill", server.sent.Load()>>20, size, before>>20)
	// The slice that was being converted, what had been read ahead, and the tables.
	if again := server.sent.Load() - size<<20; again > 3*chunk {
		t.Errorf("%d MiB were sent again", again>>20)
	}
	if disk.Status.Capacity != "320Mi" {
		t.Errorf("the disk has %s", disk.Status.Capacity)
	}
}
