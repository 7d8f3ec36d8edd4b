// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// epoch is the time of every file: a layer must depend on content only.
var epoch = time.Unix(0, 0)

// capabilityBits are the file capabilities that a definition may ask for.
var capabilityBits = map[string]uint{
	"net_bind_service": unix.CAP_NET_BIND_SERVICE,
	"net_admin":        unix.CAP_NET_ADMIN,
	"net_raw":          unix.CAP_NET_RAW,
}

func knownCapabilities() []string { return slices.Sorted(maps.Keys(capabilityBits)) }

// entry is one thing that a layer holds, with what is needed to write it.
type entry struct {
	header tar.Header
	// open yields the content of a regular file.
	open func() (io.ReadCloser, error)
}

func directoryEntry(name string, mode int64, uid, gid int) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: trimSlash(name) + "/", Mode: mode, Uid: uid, Gid: gid}}
}

func linkEntry(name, target string) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: trimSlash(name), Linkname: target, Mode: 0o777}}
}

func contentEntry(name string, content []byte, mode int64) entry {
	return entry{
		header: tar.Header{Typeflag: tar.TypeReg, Name: trimSlash(name), Size: int64(len(content)), Mode: mode},
		open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

func fileEntry(name, source string, mode int64, uid, gid int) (entry, error) {
	info, err := os.Stat(source)
	if err != nil {
		return entry{}, err
	}
	if !info.Mode().IsRegular() {
		return entry{}, fmt.Errorf("%s is not a regular file", source)
	}
	return entry{
		header: tar.Header{Typeflag: tar.TypeReg, Name: trimSlash(name), Size: info.Size(), Mode: mode, Uid: uid, Gid: gid},
		open:   func() (io.ReadCloser, error) { return os.Open(source) },
	}, nil
}

// setCapabilities gives a file the capabilities named, permitted and effective.
func (e *entry) setCapabilities(names []string) {
	if len(names) == 0 {
		return
	}
	var permitted uint32
	for _, name := range names {
		permitted |= 1 << capabilityBits[name]
	}
	const revision2Effective = 0x02000001
	var value bytes.Buffer
	// The kernel's vfs_cap_data: revision and flag, then two pairs of permitted
	// and inheritable, little endian. Writing to a buffer cannot fail.
	_ = binary.Write(&value, binary.LittleEndian, []uint32{revision2Effective, permitted, 0, 0, 0})
	e.header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": value.String()}
}

// sortEntries orders entries by path, so that a folder comes before what is in it.
func sortEntries(entries []entry) {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.header.Name, b.header.Name) })
}

// withParents adds the folders that entries lie in, unless a lower layer has
// them: written again they would lose their mode and owner.
func withParents(entries []entry, lower map[string]bool) []entry {
	present := map[string]bool{}
	for _, e := range entries {
		present[trimSlash(e.header.Name)] = true
	}
	var parents []entry
	for _, e := range entries {
		for dir := path.Dir(trimSlash(e.header.Name)); dir != "."; dir = path.Dir(dir) {
			if present[dir] || lower[dir] {
				continue
			}
			present[dir] = true
			parents = append(parents, directoryEntry(dir, 0o755, 0, 0))
		}
	}
	return append(entries, parents...)
}

func trimSlash(name string) string {
	return strings.Trim(strings.TrimPrefix(name, "./"), "/")
}
