// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Parts of a qcow2 header of version 3, as its specification numbers them.
const (
	qcow2Magic        = 0x514649fb
	qcow2HeaderLength = 104
	clusterBits       = 16
	featureDataFile   = 1 << 2
	featureUnknown    = 1 << 40
)

// qcow2Header is the fixed part of a version 3 header.
type qcow2Header struct {
	Magic, Version                      uint32
	BackingOffset                       uint64
	BackingSize, ClusterBits            uint32
	Size                                uint64
	Crypt, L1Size                       uint32
	L1Offset, RefcountOffset            uint64
	RefcountClusters, Snapshots         uint32
	SnapshotsOffset                     uint64
	Incompatible, Compatible, Autoclear uint64
	RefcountOrder, HeaderLength         uint32
}

func newHeader() qcow2Header {
	return qcow2Header{
		Magic: qcow2Magic, Version: 3, ClusterBits: clusterBits, Size: 1 << 30,
		L1Size: 2, L1Offset: 3 << clusterBits, RefcountOffset: 1 << clusterBits, RefcountClusters: 1,
		RefcountOrder: 4, HeaderLength: qcow2HeaderLength,
	}
}

// qcow2 renders a header with a backing file's name behind it, in an image of
// four empty clusters.
func qcow2(header qcow2Header, backing string) []byte {
	if backing != "" {
		header.BackingOffset, header.BackingSize = qcow2HeaderLength+8, uint32(len(backing))
	}
	var image bytes.Buffer
	// Writing fixed-size values to a buffer can't fail.
	_ = binary.Write(&image, binary.BigEndian, header)
	// The end of the list of header extensions.
	image.Write(make([]byte, 8))
	image.WriteString(backing)
	return append(image.Bytes(), make([]byte, 4<<clusterBits-image.Len())...)
}

// badContents maps names to what is wrong in a way that must be told.
func badContents() map[string][]byte {
	dataFile, unknown, huge := newHeader(), newHeader(), newHeader()
	dataFile.Incompatible = featureDataFile
	unknown.Incompatible = featureUnknown
	huge.Size = 1 << 62
	return map[string][]byte{
		// A text, as of an error page that somebody saved.
		"text.qcow2": []byte("<html><body>This is no disk image.</body></html>\n"),
		// It would make the importer read a file of its own.
		"backing-file.qcow2": qcow2(newHeader(), "/etc/passwd"),
		"data-file.qcow2":    qcow2(dataFile, ""),
		// A feature that only later software knows.
		"unknown-feature.qcow2": qcow2(unknown, ""),
		// A size that no storage has.
		"huge.qcow2": qcow2(huge, ""),
		// The beginning of a download that broke off.
		"truncated.qcow2": qcow2(newHeader(), "")[:60],
		"empty.qcow2":     {},
	}
}

func (b *builder) badFiles(ctx context.Context) (string, error) {
	contents := badContents()
	names := slices.Sorted(maps.Keys(contents))
	parts := slices.Clone(names)
	for _, name := range names {
		parts = append(parts, string(contents[name]))
	}
	return b.workshop.Cached(ctx, "guests", "bad", hash(strings.Join(parts, "\n")), func(_ context.Context, dir string) error {
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, contents[name], 0o644); err != nil {
				return err
			}
			if err := writeChecksum(path); err != nil {
				return err
			}
		}
		return nil
	})
}
