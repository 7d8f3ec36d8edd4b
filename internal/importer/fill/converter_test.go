// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/confine"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// TestMain lets the tests' own program stand in for qemu-img.
func TestMain(m *testing.M) {
	if mode := os.Getenv("STAND_IN"); mode != "" {
		if err := standIn(mode, os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "qemu-img: %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// convertWith makes a converter of the tests' own program.
func convertWith(t *testing.T, mode string) Converter {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := filepath.Join(t.TempDir(), "qemu-img")
	script := fmt.Sprintf("#!/bin/sh\nSTAND_IN=%s exec %s \"$@\"\n", mode, program)
	if err := os.WriteFile(command, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	converter := DefaultConverter
	converter.Command = command
	// Some kinds of test programs need much of an address space to begin with.
	converter.Memory = 1 << 50
	converter.Readable = append(slices.Clone(converter.Readable), filepath.Dir(program), filepath.Dir(command), "/proc")
	return converter
}

// standIn behaves as qemu-img with the arguments that are expected would, for an
// image whose file begins with the disk's length in its last 8 bytes and the
// disk before that.
func standIn(mode string, arguments []string) error {
	from, found := strings.CutPrefix(arguments[len(arguments)-2], "json:")
	if !found {
		return errors.New("no source in " + fmt.Sprint(arguments))
	}
	if strings.HasPrefix(from, `{"driver":"raw"`) {
		return standInForASlice(from, arguments[len(arguments)-1])
	}
	var options standInImage
	if err := json.Unmarshal([]byte(from), &options); err != nil {
		return err
	}
	switch mode {
	case "hang":
		time.Sleep(time.Hour)
	case "crash":
		panic("as if it were broken")
	case "spin":
		for began := time.Now(); time.Since(began) < time.Hour; {
			_ = began
		}
	case "complain":
		return fmt.Errorf("could not open %s for %s:\n\x1b[31m\xffbad\x00 grain\n%s", options.File.Server.Path, arguments[len(arguments)-1], strings.Repeat("x", 1000))
	case "full":
		return errors.New("error while writing at byte 512: No space left on device")
	case "limits":
		// Whoever is answered has been bounded.
		if _, _, err := connect(options.File.Server.Path, options.File.Export); err != nil {
			return err
		}
		limits, err := os.ReadFile("/proc/self/limits")
		return errors.Join(err, errors.New(limitOf(limits, "Max cpu time")+limitOf(limits, "Max address space")+limitOf(limits, "Max core file size")+limitOf(limits, "Max open files")))
	case "curious":
		return escape(arguments[len(arguments)-1])
	case "silent":
		os.Exit(1)
	}
	target, err := os.OpenFile(arguments[len(arguments)-1], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	file, err := readAll(options.File.Server.Path, options.File.Export, mode)
	if err != nil {
		return err
	}
	_, err = target.WriteAt(file, 0)
	return err
}

// standInImage is what a stand-in has to know of its source.
type standInImage struct {
	File struct {
		Export string `json:"export"`
		Server struct {
			Path string `json:"path"`
		} `json:"server"`
	} `json:"file"`
}

// standInForASlice reads the beginning of the image, as for its tables, and then a
// part of it.
func standInForASlice(from, to string) error {
	var source struct {
		Offset, Size int64
		File         standInImage
	}
	var target struct {
		Driver       string
		Offset, Size int64
		File         struct{ Driver, Filename string }
	}
	if err := errors.Join(json.Unmarshal([]byte(from), &source), json.Unmarshal([]byte(strings.TrimPrefix(to, "json:")), &target)); err != nil {
		return err
	}
	if source.Offset != target.Offset || source.Size != target.Size || target.Driver != "raw" || target.File.Driver != "file" {
		return fmt.Errorf("source %s and target %s", from, to)
	}
	connection, _, err := connect(source.File.File.Server.Path, source.File.File.Export)
	if err != nil {
		return err
	}
	defer connection.Close()
	part := make([]byte, source.Size)
	if err := readPart(connection, part[:4096], 0); err != nil {
		return err
	}
	const step = 64 << 10
	for at := int64(0); at < source.Size; at += step {
		if err := readPart(connection, part[at:min(at+step, source.Size)], uint64(source.Offset+at)); err != nil {
			return err
		}
	}
	written, err := os.OpenFile(target.File.Filename, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer written.Close()
	_, err = written.WriteAt(part, target.Offset)
	return err
}

// escape tells what of it a converter could do that it should not.
func escape(target string) error {
	got := []error{errors.New("escaped by")}
	try := func(what string, err error) {
		if err == nil {
			got = append(got, errors.New(what))
		}
	}
	_, err := os.ReadFile("/etc/passwd")
	try("read", err)
	_, err = os.ReadDir("/etc")
	try("list", err)
	try("write", os.WriteFile(target+".more", nil, 0o600))
	try("remove", os.Remove(target))
	return errors.Join(got...)
}

// limitOf finds one line of /proc/self/limits.
func limitOf(limits []byte, name string) string {
	_, line, _ := strings.Cut(string(limits), name)
	return name + " " + strings.Fields(line)[0] + "; "
}

// readAll reads the whole image over the socket, in small steps.
func readAll(path, export, order string) ([]byte, error) {
	connection, size, err := connect(path, export)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	file := make([]byte, size)
	const step = 60000
	var offsets []int
	for at := 0; at < len(file); at += step {
		offsets = append(offsets, at)
	}
	if order == "backwards" {
		slices.Reverse(offsets)
	}
	for _, at := range offsets {
		if err := readPart(connection, file[at:min(at+step, len(file))], uint64(at)); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// connect greets a server and returns the size of its disk.
func connect(path, export string) (net.Conn, int64, error) {
	connection, err := net.Dial("unix", path)
	if err != nil {
		return nil, 0, err
	}
	hello := "\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x01\x00\x00\x00" + string(rune(len(export))) + export
	var greeting [18 + 10]byte
	_, err = io.WriteString(connection, hello)
	if err == nil {
		_, err = io.ReadFull(connection, greeting[:])
	}
	if err != nil {
		connection.Close()
	}
	return connection, int64(binary.BigEndian.Uint64(greeting[18:])), err
}

func readPart(connection net.Conn, p []byte, offset uint64) error {
	request := binary.BigEndian.AppendUint32(nil, 0x25609513)
	request = binary.BigEndian.AppendUint32(request, 0)
	request = binary.BigEndian.AppendUint64(request, offset)
	request = binary.BigEndian.AppendUint64(request, offset)
	request = binary.BigEndian.AppendUint32(request, uint32(len(p)))
	if _, err := connection.Write(request); err != nil {
		return err
	}
	var reply [16]byte
	if _, err := io.ReadFull(connection, reply[:]); err != nil {
		return err
	}
	if code := binary.BigEndian.Uint32(reply[4:]); code != 0 {
		return fmt.Errorf("error while reading at byte %d: error %d", offset, code)
	}
	_, err := io.ReadFull(connection, p)
	return err
}

// vdiFile is an image that needs conversion: a dynamic VDI of whole blocks. The
// stand-in takes it for the disk itself.
func vdiFile(blocks int) []byte {
	file := make([]byte, 1<<20+blocks<<20)
	random := rawDisk(blocks << 20)
	copy(file[1<<20:], random)
	copy(file, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le := binary.LittleEndian
	le.PutUint32(file[0x40:], 0xbeda107f)
	le.PutUint32(file[0x44:], 0x00010001)
	le.PutUint32(file[0x48:], 0x190)
	le.PutUint32(file[0x4c:], 1)
	le.PutUint32(file[0x154:], 512)
	le.PutUint32(file[0x158:], 1<<20)
	le.PutUint32(file[0x168:], 512)
	le.PutUint64(file[0x170:], uint64(blocks)<<20)
	le.PutUint32(file[0x178:], 1<<20)
	le.PutUint32(file[0x180:], uint32(blocks))
	le.PutUint32(file[0x184:], uint32(blocks))
	for block := range blocks {
		le.PutUint32(file[512+4*block:], uint32(block))
	}
	return file
}

func TestConversion(t *testing.T) {
	file := vdiFile(70)
	// The stand-in takes the file for the disk, of which slices show less.
	inOne := usualSteps
	inOne.slice = 1 << 30
	for _, mode := range []string{"forwards", "backwards"} {
		for _, checksums := range [][]image.Checksum{nil, {sha256Of(file), md5Of(t, file)}} {
			t.Run(title(mode, len(checksums)), func(t *testing.T) {
				from := rangedServer(file)
				directory := t.TempDir()
				progress := &Progress{}
				got, err := fillInSteps(context.Background(), Options{
					Source: from, Target: directory, Size: 80 << 20, Checksums: checksums, Converter: convertWith(t, mode),
					Clock: clocktesting.NewFakeClock(time.Now()), Progress: progress,
				}, inOne)
				if err != nil {
					t.Fatal(err)
				}
				wantDisk(t, directory, file, 80<<20)
				if mode == "forwards" && (from.reads > 1 || got.TransferredBytes > int64(len(file))+1<<20) {
					t.Errorf("%d requests, %d bytes transferred", from.reads, got.TransferredBytes)
				}
				got.TransferredBytes = 0
				if want := (report.Result{Format: "vdi", VirtualSizeBytes: 70 << 20, StoredSizeBytes: 71 << 20}); *got != want {
					t.Errorf("got %+v, want %+v", *got, want)
				}
				if progress.Phase() != "Converting" || progress.Total() != 71<<20 {
					t.Errorf("%s of %d", progress.Phase(), progress.Total())
				}
			})
		}
	}
}

func TestConversionArguments(t *testing.T) {
	const from = `json:{"driver":"%s","file":{"driver":"nbd","export":"image","server":{"path":"/tmp/fill1/image","type":"unix"}}%s,"read-only":true}`
	v := fresh(t)
	for _, tc := range []struct {
		format image.Format
		blank  bool
		want   string
	}{
		{"vmdk", true, `--target-is-zero json:{"backing":null,"driver":"vmdk","file":{"driver":"nbd","export":"image","server":{"path":"/tmp/fill1/image","type":"unix"}},"read-only":true}`},
		{"vdi", true, "--target-is-zero " + fmt.Sprintf(from, "vdi", "")},
		{"vhdx", false, fmt.Sprintf(from, "vhdx", "")},
		{"vpc", false, fmt.Sprintf(from, "vpc", `,"force_size_calc":"current_size"`)},
	} {
		got, err := conversion{format: tc.format, socket: "/tmp/fill1/image", export: "image", disk: &disk{Volume: v, blank: tc.blank}}.arguments()
		if err != nil {
			t.Fatal(err)
		}
		cache := "none"
		if !v.Direct() {
			cache = "writeback"
		}
		if want := "convert -n -W -m 16 -S 64k -t " + cache + " -O raw " + tc.want + " " + v.Path(); strings.Join(got, " ") != want {
			t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
		}
	}
}

func TestConversionFailures(t *testing.T) {
	for _, tc := range []struct {
		mode      string
		change    func(c *Converter)
		reason    report.Reason
		message   string
		permanent bool
	}{
		{"complain", nil, report.ImageCorrupt, "the vdi image cannot be converted: could not open the image for the volume: ?[31m?bad? grain xxx", true},
		{"silent", nil, report.ImageCorrupt, "it says nothing about the cause", true},
		{"crash", nil, report.ImageCorrupt, "the vdi image cannot be converted", true},
		{"full", nil, report.VolumeFull, "no space left", false},
		{"spin", func(c *Converter) { c.Processor, c.ProcessorPerGiB = time.Second, 0 }, report.ImageCorrupt, "the signal", true},
		{"limits", nil, report.ImageCorrupt, "Max cpu time 240; Max address space 1125899906842624; Max core file size 0; Max open files 64;", true},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			converter := convertWith(t, tc.mode)
			if tc.change != nil {
				tc.change(&converter)
			}
			_, err := Fill(context.Background(), Options{Source: rangedServer(vdiFile(3)), Target: t.TempDir(), Size: size, Converter: converter})
			wantFailure(t, err, tc.reason, tc.message)
			if isPermanent(err) != tc.permanent {
				t.Errorf("permanent: %t", isPermanent(err))
			}
			if len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x00\x1b\n") || !utf8.ValidString(err.Error()) || strings.Contains(err.Error(), os.TempDir()) {
				t.Errorf("shown as it came: %q", err)
			}
		})
	}
	converter := Converter{Command: "/nonexistent/qemu-img"}
	if _, err := Fill(context.Background(), Options{Source: rangedServer(vdiFile(3)), Target: t.TempDir(), Size: size, Converter: converter}); err == nil || isPermanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestConversionOfASourceThatFails(t *testing.T) {
	gone := &source.Error{Reason: report.SourceUnreachable, Message: "the source is gone"}
	file := vdiFile(60)
	for _, tc := range []struct {
		title  string
		change func(from ranged)
	}{
		{"stream", func(from ranged) {
			from.hook = func(offset int64) error {
				if offset > 30<<20 {
					return gone
				}
				return nil
			}
		}},
		{"at random", func(from ranged) {
			from.atRandom = func(p []byte, offset int64) (int, error) {
				if offset > 0 {
					return 0, gone
				}
				return bytes.NewReader(file).ReadAt(p, offset)
			}
		}},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			from := rangedServer(file)
			tc.change(from)
			_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: 80 << 20, Converter: convertWith(t, "backwards")})
			if !errors.Is(err, gone) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestConversionComparesChecksums(t *testing.T) {
	file := vdiFile(60)
	sum := sha256Of(file)
	sum.Sum[0] ^= 1
	_, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: t.TempDir(), Size: 80 << 20, Checksums: []image.Checksum{sum}, Converter: convertWith(t, "forwards")})
	var mismatch *image.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("got %v", err)
	}
}

// A converter that was taken over finds nothing, as far as the kernel can confine
// it.
func TestConverterIsConfined(t *testing.T) {
	escapes := "escaped by; check"
	if !confine.IsPossible() {
		escapes = "escaped by read list write"
	}
	_, err := Fill(context.Background(), Options{Source: rangedServer(vdiFile(3)), Target: t.TempDir(), Size: size, Converter: convertWith(t, "curious")})
	wantFailure(t, err, report.ImageCorrupt, "cannot be converted: "+escapes)
	// The importer itself is not.
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

// A server that sends other bytes for ranges than in the whole file does not get
// them past a checksum.
func TestConversionOfTwoDifferentFiles(t *testing.T) {
	file := vdiFile(60)
	other := bytes.Clone(file)
	other[len(other)-100] ^= 1
	from := rangedServer(file)
	from.atRandom = func(p []byte, offset int64) (int, error) { return bytes.NewReader(other).ReadAt(p, offset) }
	_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: 80 << 20, Checksums: []image.Checksum{sha256Of(file)}, Converter: convertWith(t, "backwards")})
	var changed *source.ChangedError
	if !errors.As(err, &changed) || !strings.Contains(changed.Why, "other bytes") {
		t.Errorf("got %v", err)
	}
}

func TestConversionEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	began := time.Now()
	_, err := Fill(ctx, Options{Source: rangedServer(vdiFile(3)), Target: t.TempDir(), Size: size, Converter: convertWith(t, "hang")})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 8*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

// Where zeros are not for free the converter has to write them, and what lies
// behind the image's disk is made zero afterwards.
func TestSanitise(t *testing.T) {
	c := conversion{socket: "/tmp/s", disk: &disk{Volume: fresh(t)}}
	for _, tc := range []struct{ in, want string }{
		{"", "it says nothing about the cause"},
		{" \n\t ", "it says nothing about the cause"},
		{"qemu-img: Could not open '/tmp/s': Bad\r\n  magic\n", "Could not open 'the image': Bad magic"},
		{"a\x1b[2Jb\u202ec", "a?[2Jb?c"},
		{strings.Repeat("é", 300), strings.Repeat("é", 100) + "…"},
	} {
		if got := c.sanitise(tc.in); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	output := &tail{}
	for range 100 {
		fmt.Fprint(output, strings.Repeat("x", 99)+"y")
	}
	fmt.Fprint(output, "end")
	if got := output.String(); len(got) != 4096 || !strings.HasSuffix(got, "xyend") {
		t.Errorf("%d bytes, …%s", len(got), got[len(got)-8:])
	}
}
