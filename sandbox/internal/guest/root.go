// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// Where the folders of a run appear inside the root.
const (
	insideDir     = "/work"
	insideSources = "/sources"
)

// root is a folder with a Debian root file system.
type root struct {
	dir string
}

// enter runs in mount and process namespaces of its own, so whatever becomes of
// it, nothing stays mounted and no process stays behind. Its arguments: the root,
// the folder for results, the sources, and the command.
const enter = `root=$1 work=$2 sources=$3; shift 3
mkdir -p "$root/work" "$root/sources" "$root/proc" "$root/tmp" "$root/dev"
mount --bind "$work" "$root/work"
mount --bind "$sources" "$root/sources"
mount -o remount,bind,ro "$root/sources"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin LC_ALL=C SOURCE_DATE_EPOCH=0 "$@"`

// run runs a command inside the root. Each line that it prints goes to note; the
// last ones become part of the error if it fails.
func (r root) run(ctx context.Context, work, sources string, note func(string), command ...string) error {
	args := append([]string{
		"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"sh", "-ec", enter, "enter", r.dir, work, sources,
	}, command...)
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	var tail tail
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			note(lines.Text())
			tail.add(lines.Text())
		}
		// A line too long for the scanner must not stop the command.
		_, _ = io.Copy(io.Discard, reader)
	}()
	err := cmd.Run()
	writer.Close()
	<-done
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command[:min(2, len(command))], " "), err, tail.String())
	}
	return nil
}

// tailLines is how much of a failed command's output goes into its error.
const tailLines = 20

type tail struct{ lines []string }

func (t *tail) add(line string) {
	if t.lines = append(t.lines, line); len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// String joins the last lines.
func (t *tail) String() string {
	var joined bytes.Buffer
	for _, line := range t.lines {
		fmt.Fprintln(&joined, line)
	}
	return joined.String()
}
