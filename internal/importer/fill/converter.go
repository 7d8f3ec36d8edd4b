// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/confine"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Converter says how the program that reads foreign formats is run.
type Converter struct {
	// Command is the path of qemu-img, or of something that does the same.
	Command string
	// Memory bounds its address space in bytes.
	Memory uint64
	// Processor bounds its processor time, ProcessorPerGiB more for each GiB of
	// the disk.
	Processor, ProcessorPerGiB time.Duration
	// Readable is what it may read: itself, its libraries, the properties of
	// devices. It may write to the volume only.
	Readable []string
}

// DefaultConverter is how qemu-img is run. A conversion takes a few seconds of
// processor time for a GiB, most of it to unpack.
var DefaultConverter = Converter{
	Command:         "/usr/bin/qemu-img",
	Memory:          2 << 30,
	Processor:       2 * time.Minute,
	ProcessorPerGiB: 2 * time.Minute,
	Readable:        []string{"/bin", "/lib", "/lib64", "/usr", "/etc/ld.so.cache", "/sys"},
}

// conversion is one run of the converter.
type conversion struct {
	format      image.Format
	virtualSize int64
	// part is what of the disk is converted, all of it if its length is 0.
	part span
	// spent is the processor time of earlier runs for the same disk.
	spent time.Duration
	// socket and export are where the image is served.
	socket, export string
	disk           *disk
}

// arguments say everything explicitly: the format that was inspected, no backing
// file whatever the image says, and a target that is there already.
func (c conversion) arguments() ([]string, error) {
	options := map[string]any{
		"driver":    string(c.format),
		"read-only": true,
		"file": map[string]any{
			"driver": "nbd",
			"export": c.export,
			"server": map[string]any{"type": "unix", "path": c.socket},
		},
	}
	switch c.format {
	case image.FormatQCOW2, image.FormatVMDK:
		options["backing"] = nil
	case image.FormatVPC:
		// Otherwise QEMU may take a size that it computes from cylinders.
		options["force_size_calc"] = "current_size"
	}
	from, to, err := c.ends(options)
	if err != nil {
		return nil, err
	}
	// The target is made durable by whoever owns it, so it is enough that not
	// everything piles up in the page cache.
	cache := "writeback"
	if c.disk.Direct() {
		cache = "none"
	}
	arguments := []string{"convert", "-n", "-W", "-m", "16", "-S", "64k", "-t", cache, "-O", "raw"}
	if c.disk.blank {
		arguments = append(arguments, "--target-is-zero")
	}
	return append(arguments, from, to), nil
}

// ends are the source and the target of the conversion, or the same part of both.
func (c conversion) ends(source map[string]any) (from, to string, err error) {
	if c.part.length == 0 {
		encoded, err := json.Marshal(source)
		return "json:" + string(encoded), c.disk.Path(), err
	}
	driver := "file"
	if c.disk.IsDevice() {
		driver = "host_device"
	}
	target := map[string]any{"driver": driver, "filename": c.disk.Path()}
	ends := [2]string{}
	for i, whole := range []map[string]any{source, target} {
		encoded, err := json.Marshal(map[string]any{"driver": "raw", "offset": c.part.offset, "size": c.part.length, "file": whole})
		if err != nil {
			return "", "", err
		}
		ends[i] = "json:" + string(encoded)
	}
	return ends[0], ends[1], nil
}

// maxOutput is how much of the converter's output is kept.
const maxOutput = 4 << 10

// run converts and returns the processor time that it took. ready is called when
// the converter is bounded: nothing of the image may reach it earlier.
func (c Converter) run(ctx context.Context, job conversion, ready func()) (spent time.Duration, err error) {
	arguments, err := job.arguments()
	if err != nil {
		return 0, err
	}
	limits := confine.Files{Readable: c.Readable, Writable: []string{os.DevNull, job.disk.Path()}}
	err = limits.Run(func() (err error) {
		spent, err = c.runConfined(ctx, job, arguments, ready)
		return err
	})
	return spent, err
}

func (c Converter) runConfined(ctx context.Context, job conversion, arguments []string, ready func()) (time.Duration, error) {
	output := &tail{}
	command := exec.CommandContext(ctx, c.Command, arguments...)
	command.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("start the converter: %w", err)
	}
	if err := c.limit(command.Process.Pid, job); err != nil {
		_ = command.Process.Kill()
		_ = command.Wait()
		return 0, fmt.Errorf("bound the converter: %w", err)
	}
	ready()
	err := command.Wait()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, job.failure(err, output.String())
	}
	return command.ProcessState.UserTime() + command.ProcessState.SystemTime(), nil
}

// limit bounds the running converter. It waits for the image meanwhile.
func (c Converter) limit(pid int, job conversion) error {
	for resource, value := range map[int]uint64{
		unix.RLIMIT_AS:     c.Memory,
		unix.RLIMIT_CPU:    c.processorSeconds(job),
		unix.RLIMIT_CORE:   0,
		unix.RLIMIT_NOFILE: 64,
	} {
		limit := unix.Rlimit{Cur: value, Max: value}
		if err := unix.Prlimit(pid, resource, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// processorSeconds is what is left of the processor time for the whole disk, however
// many runs it takes.
func (c Converter) processorSeconds(job conversion) uint64 {
	gibibytes := time.Duration(job.virtualSize>>30 + 1)
	return uint64(max((c.Processor+c.ProcessorPerGiB*gibibytes-job.spent)/time.Second, 1))
}

// failure gives the converter's end a reason. The image is at fault unless the
// converter was ended from outside or names the volume's errors.
func (c conversion) failure(err error, output string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("run the converter: %w", err)
	}
	text := c.sanitise(output)
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &image.Error{Kind: image.Corrupt,
			Message: fmt.Sprintf("the %s image cannot be converted: the converter was ended by the signal %s, probably because the image made it exceed its bounds; "+
				"convert it yourself with `qemu-img convert -O qcow2 SOURCE TARGET`", c.format, status.Signal())}
	}
	for _, full := range []string{"No space left on device", "Disk quota exceeded"} {
		if strings.Contains(text, full) {
			return &report.Failure{Reason: report.VolumeFull, Message: "the storage behind the volume has no space left: free some there, or choose another storage class"}
		}
	}
	return &image.Error{Kind: image.Corrupt,
		Message: fmt.Sprintf("the %s image cannot be converted: %s; check that the file is complete, or convert it yourself with `qemu-img convert -O qcow2 SOURCE TARGET`", c.format, text)}
}

// maxText is how much of the converter's words is shown.
const maxText = 200

// sanitise makes one line of printable characters out of output that the image
// may have influenced, without the names of files inside the importer.
func (c conversion) sanitise(output string) string {
	output = strings.NewReplacer(c.socket, "the image", c.disk.Path(), "the volume", "qemu-img: ", "").Replace(output)
	var b strings.Builder
	for _, field := range strings.Fields(strings.ToValidUTF8(output, "?")) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		for _, r := range field {
			if b.Len() >= maxText {
				return b.String() + "…"
			}
			if !unicode.IsPrint(r) {
				r = '?'
			}
			b.WriteRune(r)
		}
	}
	if b.Len() == 0 {
		return "it says nothing about the cause"
	}
	return b.String()
}

// tail keeps the end of what is written to it.
type tail struct{ buffer bytes.Buffer }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.buffer.Write(p)
	if excess := t.buffer.Len() - maxOutput; excess > 0 {
		t.buffer.Next(excess)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.buffer.String() }
