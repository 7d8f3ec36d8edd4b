// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"testing"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// largeDisk is more than an importer holds in memory at once.
func largeDisk(size int) []byte {
	disk := bytes.Repeat(rawDisk()[512:1<<20], size/(1<<20)+2)[:size]
	copy(disk, rawDisk()[:512])
	return disk
}

// An object storage has a piece only when a part is full: an importer must not wait for less.
func TestImportIntoABucket(t *testing.T) {
	disk := largeDisk(72<<20 + 1536)
	registry := dvcrtest.StartInBucket(t, dvcrtest.StartObjectStore(t).Bucket())
	if _, err := Run(context.Background(), newOptions(t, registry, file(disk))); err != nil {
		t.Fatal(err)
	}
	if got := pull(t, registry); !bytes.Equal(got.disk, disk) {
		t.Errorf("%d bytes in the registry, %d in the source, or others", len(got.disk), len(disk))
	}
}

func TestKilledImportIntoABucketGoesOn(t *testing.T) {
	disk := largeDisk(66<<20 + 1536)
	count := &traffic{}
	k := &killable{
		registry: dvcrtest.StartInBucket(t, dvcrtest.StartObjectStore(t).Bucket(), count.registry), handler: file(disk), stateDir: t.TempDir(),
		// Chunks of the size that a pod has them in.
		adjust: func(o *Options) { o.ChunkSize = DefaultChunkSize },
	}
	killed := false
	k.atCheckpoint = func(_ report.Checkpoint, kill func()) {
		if !killed {
			killed = true
			kill()
		}
	}
	if _, err := k.run(t); err == nil || !killed {
		t.Fatalf("it was not killed: %v", err)
	}
	if _, err := k.run(t); err != nil {
		t.Fatal(err)
	}
	if got := pull(t, k.registry); !bytes.Equal(got.disk, disk) {
		t.Errorf("%d bytes in the registry, %d in the source, or others", len(got.disk), len(disk))
	}
	if sent := count.toRegistry.Load(); sent > int64(len(disk))+2*DefaultChunkSize {
		t.Errorf("%d bytes were sent for a disk of %d", sent, len(disk))
	}
}
