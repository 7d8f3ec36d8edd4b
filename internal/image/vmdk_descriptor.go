// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"strings"
)

const (
	vmdkDescriptorTitle = "# Disk DescriptorFile"
	vmdkNoParent        = "ffffffff"
	vmdkSparse          = "monolithicSparse"
	vmdkStream          = "streamOptimized"
)

// vmdkDescriptor is what the text in an image says.
type vmdkDescriptor struct {
	kind    string
	extents int
}

func (d *vmdkDescriptor) stream() bool { return d.kind == vmdkStream }

// parseVMDKDescriptor reads the text and refuses everything that could lead to
// another file.
func parseVMDKDescriptor(text []byte) (*vmdkDescriptor, error) {
	text, _, _ = bytes.Cut(text, []byte{0})
	if !bytes.HasPrefix(text, []byte(vmdkDescriptorTitle)) {
		return nil, refused("the VMDK image has no descriptor, so it may be a part of a disk only: %s", convertRemedy)
	}
	descriptor := &vmdkDescriptor{}
	for line := range strings.Lines(string(text)) {
		if err := descriptor.readLine(strings.TrimSpace(line)); err != nil {
			return nil, err
		}
	}
	switch {
	case descriptor.kind != vmdkSparse && descriptor.kind != vmdkStream:
		return nil, refused("the VMDK image is of the type %q: only %s and %s are supported, so %s", descriptor.kind, vmdkSparse, vmdkStream, convertRemedy)
	case descriptor.extents != 1:
		return nil, refused("the VMDK image has %d parts, but it has to be in one file: %s", descriptor.extents, convertRemedy)
	}
	return descriptor, nil
}

func (d *vmdkDescriptor) readLine(line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	switch word, _, _ := strings.Cut(line, " "); strings.ToUpper(word) {
	case "RW", "RDONLY", "NOACCESS":
		d.extents++
		return checkVMDKExtent(line)
	}
	key, value, _ := strings.Cut(line, "=")
	value = strings.Trim(strings.TrimSpace(value), `"`)
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "parentfilenamehint":
		return refused("the VMDK image names a parent, so it is only a part of a disk: %s", mergeVMDKRemedy)
	case "parentcid":
		if !strings.EqualFold(value, vmdkNoParent) {
			return refused("the VMDK image has a parent (%q), so it is only a part of a disk: %s", value, mergeVMDKRemedy)
		}
	case "encryptionkeys":
		return refused("the VMDK image is encrypted: decrypt it first")
	case "createtype":
		if d.kind != "" {
			return corrupt("the VMDK descriptor gives the image's type twice")
		}
		d.kind = value
	}
	return nil
}

// checkVMDKExtent reads a line like RW 20480 SPARSE "disk.vmdk". The name is the
// file's own one, which nobody opens; one that leads elsewhere is not honest.
func checkVMDKExtent(line string) error {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 4 {
		return corrupt("the VMDK descriptor has the incomplete line %q", line)
	}
	name := strings.TrimSpace(fields[3])
	switch {
	case !strings.EqualFold(fields[2], "SPARSE"):
		return refused("the VMDK image has its disk in a part of the type %q: %s", fields[2], convertRemedy)
	case strings.ContainsAny(name, `/\:`):
		return refused("the VMDK image names the file %s: %s", name, convertRemedy)
	}
	return nil
}
