// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func le16(at int, value uint16) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], value) }
}

func le32(at int, value uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], value) }
}

func le64(at int, value uint64) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], value) }
}

// at applies a change to a part of a file.
func at(offset int, change func([]byte)) func([]byte) {
	return func(b []byte) { change(b[offset:]) }
}

// describe puts a text in the place of a VMDK's descriptor, which both golden
// images have in the 20 sectors behind the header.
func describe(text string) func([]byte) {
	return func(b []byte) {
		clear(b[512 : 21*512])
		copy(b[512:21*512], text)
	}
}

const descriptor = `# Disk DescriptorFile
version=1
CID=3b386780
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 2049 SPARSE "disk.vmdk"

ddb.adapterType = "ide"
`

// addFooter moves the place of the grain directory from the header to a footer,
// as programs do that write an image in one go. QEMU reads the result as the
// same disk.
func addFooter(b []byte) []byte {
	b = append(b, make([]byte, (512-len(b)%512)%512)...)
	footer := append([]byte(nil), b[:512]...)
	le64(56, 1<<64-1)(b)
	mark := make([]byte, 512)
	le64(0, 1)(mark)
	le32(12, 3)(mark)
	return append(append(append(b, mark...), footer...), make([]byte, 512)...)
}

func TestInspectVMDKHeader(t *testing.T) {
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		kind    Kind
		message string
	}{
		{"version 0", le32(4, 0), NotSupported, "version 0"},
		{"version 4", le32(4, 4), NotSupported, "version 4"},
		{"transferred as a text", at(73, func(b []byte) { copy(b, "\n \n\n") }), Corrupt, "binary"},
		{"no disk, as if it were a descriptor", le64(12, 0), Refused, "no disk"},
		{"disk too large", le64(12, 64<<40/512+1), Refused, "at most"},
		{"disk beyond arithmetic", le64(12, 1<<63), Refused, "at most"},
		{"disk of all ones", le64(12, 1<<64-1), Refused, "at most"},
		{"no grains", le64(20, 0), Corrupt, "grains of 0"},
		{"grains of an odd size", le64(20, 129), Corrupt, "grains of 129"},
		{"grains beyond arithmetic", le64(20, 1<<63), Corrupt, "grains of"},
		{"empty tables", le32(44, 0), Corrupt, "tables of 0"},
		{"long tables", le32(44, 513), Corrupt, "tables of 513"},
		{"tables of all ones", le32(44, 1<<32-1), Corrupt, "tables of"},
		{"giant directory", func(b []byte) { le64(12, 64<<40/512)(b); le64(20, 1)(b); le32(44, 1)(b) }, Corrupt, "directory"},
		{"unknown compression", le16(77, 2), Refused, "unknown method"},
		{"compressed by nothing", le32(8, 3|1<<16), Corrupt, "contradicts"},
		{"no descriptor", le64(28, 0), Refused, "no descriptor"},
		{"descriptor of no length", le64(36, 0), Refused, "no descriptor"},
		{"descriptor far away", le64(28, 1<<40), Corrupt, "too far"},
		{"descriptor beyond arithmetic", le64(28, 1<<63), Corrupt, "too far"},
		{"descriptor behind the end", le64(28, 1<<20), Corrupt, "truncated"},
		{"giant descriptor", le64(36, 2049), Corrupt, "too many"},
		{"descriptor beyond the end", le64(36, 2048), Corrupt, "truncated"},
		{"descriptor elsewhere", le64(28, 30), Refused, "no descriptor"},
		{"no directory", le64(56, 0), Corrupt, "sector 0"},
		{"directory behind the end", le64(56, 1<<20), Corrupt, "truncated"},
		{"directory beyond arithmetic", le64(56, 1<<63), Corrupt, "directory"},
		{"redundant directory behind the end", le64(48, 1<<20), Corrupt, "redundant"},
		{"table behind the end", at(26*512, le32(0, 1<<20)), Corrupt, "grain table"},
		{"table of all ones", at(26*512, le32(0, 1<<32-1)), Corrupt, "grain table"},
		{"grain behind the end", at(27*512, le32(0, 1<<20)), Corrupt, "grain"},
		{"grain of all ones", at(27*512, le32(0, 1<<32-1)), Corrupt, "grain"},
		{"grain that ends behind the end", at(27*512, le32(0, 851968/512-1)), Corrupt, "truncated"},
		{"footer where there is none", le64(56, 1<<64-1), Corrupt, "footer"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "monolithicSparse.vmdk"), tc.edit))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

func TestInspectVMDKAcceptsVariants(t *testing.T) {
	want := Info{Format: FormatVMDK, VirtualSize: 2049 * 512}
	for title, edit := range map[string]func([]byte){
		"newlines unchecked":               func(b []byte) { le32(8, 2)(b); clear(b[73:77]) },
		"no redundant directory":           func(b []byte) { le32(8, 1)(b); le64(48, 0)(b) },
		"version 2":                        le32(4, 2),
		"no table at all":                  at(26*512, le32(0, 0)),
		"grains that are zeros":            func(b []byte) { le32(8, 7)(b); at(27*512, le32(0, 1))(b) },
		"an entry behind the end":          at(27*512, le32(4*17, 1<<31)),
		"windows newlines":                 describe(strings.ReplaceAll(descriptor, "\n", "\r\n")),
		"another case":                     describe(strings.ReplaceAll(descriptor, "parentCID=ffffffff", "PARENTCID = FFFFFFFF")),
		"no parent at all":                 describe(strings.ReplaceAll(descriptor, "parentCID=ffffffff", "")),
		"read-only":                        describe(strings.ReplaceAll(descriptor, "RW", "RDONLY")),
		"comments name what must not be":   describe(descriptor + "# a parent\n#RW 1 FLAT \"/etc/shadow\" 0\n"),
		"what is behind a zero is nothing": describe(descriptor + "\x00RW 1 FLAT \"/etc/shadow\" 0\n"),
		"name with spaces":                 describe(strings.ReplaceAll(descriptor, "disk.vmdk", "my own disk.vmdk")),
	} {
		info, err := inspectAt(changed(golden(t, "monolithicSparse.vmdk"), edit))
		if err != nil || info != want {
			t.Errorf("%s: %+v, %v", title, info, err)
		}
	}
}

func TestInspectVMDKDescriptor(t *testing.T) {
	replace := func(what, by string) string {
		if !strings.Contains(descriptor, what) {
			t.Fatalf("the descriptor has no %q", what)
		}
		return strings.ReplaceAll(descriptor, what, by)
	}
	for _, tc := range []struct {
		title, text string
		kind        Kind
		message     string
	}{
		{"empty", "", Refused, "no descriptor"},
		{"something else", "version=1\n" + descriptor, Refused, "no descriptor"},
		{"parent", replace("CID=ffffffff", "CID=3b386780"), Refused, `parent ("3b386780")`},
		{"parent's name", descriptor + "parentFileNameHint=\"/etc/shadow\"\n", Refused, "names a parent"},
		{"parent's name in another case", descriptor + "PARENTFILENAMEHINT=\"x\"\n", Refused, "names a parent"},
		{"parent's name with spaces", descriptor + "  parentFileNameHint = \"x\"\n", Refused, "names a parent"},
		{"parent's name in the middle of a line", descriptor + "# parentFileNameHint=\"x\"\n", Refused, "names a parent"},
		{"parent's name behind a zero", descriptor + "\x00parentFileNameHint=\"x\"\n", Refused, "names a parent"},
		{"no type", replace("createType", "type"), Refused, `type ""`},
		{"flat", replace("monolithicSparse", "monolithicFlat"), Refused, "monolithicFlat"},
		{"split", replace("monolithicSparse", "twoGbMaxExtentSparse"), Refused, "twoGbMaxExtentSparse"},
		{"ESX", replace("monolithicSparse", "vmfs"), Refused, "vmfs"},
		{"device", replace("monolithicSparse", "fullDevice"), Refused, "fullDevice"},
		{"custom", replace("monolithicSparse", "custom"), Refused, "custom"},
		{"two types", descriptor + "createType=\"vmfs\"\n", Corrupt, "twice"},
		{"stream that is none", replace("monolithicSparse", "streamOptimized"), Corrupt, "not by its header"},
		{"no extent", replace("RW 2049 SPARSE \"disk.vmdk\"", ""), Refused, "0 parts"},
		{"two extents", descriptor + "RW 2049 SPARSE \"other.vmdk\"\n", Refused, "2 parts"},
		{"flat extent", replace("SPARSE \"disk.vmdk\"", "FLAT \"/etc/shadow\" 0"), Refused, `"FLAT"`},
		{"zero extent", replace("SPARSE \"disk.vmdk\"", "ZERO 0 0"), Refused, `"ZERO"`},
		{"extent in another case", replace("RW 2049 SPARSE \"disk.vmdk\"", "rw 1 flat \"/etc/shadow\" 0"), Refused, `"flat"`},
		{"incomplete extent", replace("RW 2049 SPARSE \"disk.vmdk\"", "RW 2049"), Corrupt, "incomplete"},
		{"extent elsewhere", replace("disk.vmdk", "/etc/shadow"), Refused, "/etc/shadow"},
		{"extent above", replace("disk.vmdk", `..\\disk.vmdk`), Refused, "names the file"},
		{"extent on a server", replace("disk.vmdk", "nbd:10.0.0.1"), Refused, "names the file"},
		{"extent as an expression", replace("disk.vmdk", `json:{}`), Refused, "names the file"},
		{"encrypted", descriptor + "encryptionKeys=\"vmware:key\"\n", Refused, "encrypted"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "monolithicSparse.vmdk"), describe(tc.text)))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

// QEMU reads a parent's name at a place of its own.
func TestInspectVMDKLooksWhereQEMULooks(t *testing.T) {
	content := changed(golden(t, "monolithicSparse.vmdk"), describe("parentFileNameHint=\"/etc/shadow\"\n"))
	content = append(content, make([]byte, 20*512)...)
	sector := len(content)/512 - 20
	copy(content[sector*512:], descriptor)
	le64(28, uint64(sector))(content)
	info, err := inspectAt(content)
	wantError(t, info, err, Refused, "names a parent")
	clear(content[512 : 21*512])
	if info, err := inspectAt(content); err != nil || info.Format != FormatVMDK {
		t.Errorf("without the name: %+v, %v", info, err)
	}
	_, err = Inspect(content[:65536], int64(len(content)))
	wantError(t, Info{}, err, Refused, "too far")
}

func TestInspectVMDKFooter(t *testing.T) {
	want := Info{Format: FormatVMDK, VirtualSize: 2049 * 512}
	content := addFooter(golden(t, "streamOptimized.vmdk"))
	size := len(content)
	for title, inspected := range map[string]func() (Info, error){
		"whole":                   func() (Info, error) { return inspectAt(content) },
		"beginning":               func() (Info, error) { return Inspect(content[:65536], int64(size)) },
		"beginning of a stream":   func() (Info, error) { return Inspect(content, UnknownSize) },
		"beginning and end":       func() (Info, error) { return InspectTail(content[:65536], content[size-1536:], int64(size)) },
		"beginning and an sector": func() (Info, error) { return InspectTail(content[:65536], content[size-512:], int64(size)) },
	} {
		if info, err := inspected(); err != nil || info != want {
			t.Errorf("%s: %+v, %v", title, info, err)
		}
	}
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		message string
	}{
		{"no mark", at(size-1536, le32(12, 0)), "does not end with a footer"},
		{"mark of another length", at(size-1536, le32(8, 1)), "does not end with a footer"},
		{"no header", at(size-1024, le32(0, 0)), "does not end with a footer"},
		{"no end", at(size-512, le32(0, 1)), "does not end with a footer"},
		{"another disk", at(size-1024, le64(12, 0)), "contradicts"},
		{"other grains", at(size-1024, le64(20, 1)), "contradicts"},
		{"other tables", at(size-1024, le32(44, 1)), "contradicts"},
		{"other flags", at(size-1024, le32(8, 3)), "contradicts"},
		{"other compression", at(size-1024, le16(77, 7)), "contradicts"},
		{"directory at the end again", at(size-1024, le64(56, 1<<64-1)), "does not say"},
		{"directory behind the end", at(size-1024, le64(56, 1<<30)), "truncated"},
		{"table behind the end", at(26*512, le32(0, 1<<30)), "truncated"},
	} {
		broken := changed(append([]byte(nil), content...), tc.edit)
		info, err := inspectAt(broken)
		wantError(t, info, err, Corrupt, tc.message)
		if t.Failed() {
			t.Fatal(tc.title)
		}
	}
	info, err := inspectAt(content[:size-512])
	wantError(t, info, err, Corrupt, "truncated")
	info, err = inspectAt(content[:1024])
	wantError(t, info, err, Corrupt, "truncated")
}

// Without a footer only the last grain shows that a stream is complete.
func TestInspectVMDKLastGrain(t *testing.T) {
	content := golden(t, "streamOptimized.vmdk")
	last := bytes.LastIndex(content, []byte{0x78, 0xda}) // The beginning of what deflate packed.
	if last < 0 {
		last = bytes.LastIndex(content, []byte{0x78, 0x9c})
	}
	if last < 12 || last%512 != 12 {
		t.Fatalf("the last grain is at byte %d", last)
	}
	info, err := inspectAt(content[:last+100])
	wantError(t, info, err, Corrupt, "last grain")
	info, err = inspectAt(changed(append([]byte(nil), content...), le32(last-4, 1<<32-1)))
	wantError(t, info, err, Corrupt, "last grain")
	// What cannot be seen is not judged.
	if info, err := Inspect(content[:65536], int64(len(content))); err != nil {
		t.Errorf("beginning: %+v, %v", info, err)
	}
}
