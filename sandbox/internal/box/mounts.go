// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/cgroup"
)

// mount is one call of mount(2) that makes its target first.
type mount struct {
	source, target, fstype, data string
	flags                        uintptr
}

func (m mount) do() error {
	if err := makeTarget(m.source, m.target, m.flags); err != nil {
		return fmt.Errorf("mount point %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

// makeTarget makes a file for a bound file and a directory for all else.
func makeTarget(source, target string, flags uintptr) error {
	if flags&unix.MS_BIND != 0 {
		if info, err := os.Stat(source); err == nil && !info.IsDir() {
			if _, err := os.Stat(target); err == nil {
				return nil
			}
			return os.WriteFile(target, nil, 0o644)
		}
	}
	return os.MkdirAll(target, 0o755)
}

func mountAll(list []mount) error {
	for _, m := range list {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// detach makes every mount private, or what follows would show on the machine.
func detach() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// share makes every mount of the box shared within it, so that a container can
// pass mounts on to its node (mountPropagation: Bidirectional).
func share() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return nil
}

// mountRoot assembles the box's file system and makes it the root.
func mountRoot(r Root, logs string) error {
	if err := makeDirectories(r, logs); err != nil {
		return err
	}
	overlay := mount{
		source: "overlay", target: r.Mount, fstype: "overlay",
		data: fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", r.Lower, r.Upper, r.Work),
	}
	if err := overlay.do(); err != nil {
		return err
	}
	if err := mountAll(systemMounts(r.Mount)); err != nil {
		return err
	}
	binds := append([]Bind{{Source: logs, Target: logs}}, r.Binds...)
	for _, b := range binds {
		if err := b.do(r.Mount); err != nil {
			return err
		}
	}
	return pivot(r.Mount)
}

// makeDirectories makes what the mounts need on the machine's side. The layer of
// changes starts empty each time: it would not fit a newer lower directory, and
// what has to last is bound in from elsewhere.
func makeDirectories(r Root, logs string) error {
	for _, dir := range []string{r.Upper, r.Work} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("empty layer of box: %w", err)
		}
	}
	dirs := []string{r.Upper, r.Work, r.Mount, logs}
	for _, b := range r.Binds {
		dirs = append(dirs, b.Source)
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory for box: %w", err)
		}
	}
	return nil
}

// systemMounts are the file systems that every box with a root of its own needs.
// /dev is the machine's, since loop devices come and go there; terminals and
// shared memory are the box's own.
func systemMounts(root string) []mount {
	at := func(path string) string { return filepath.Join(root, path) }
	return []mount{
		{source: "proc", target: at("/proc"), fstype: "proc", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{source: "sysfs", target: at("/sys"), fstype: "sysfs", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{source: cgroup.Mount, target: at(cgroup.Mount), flags: unix.MS_BIND | unix.MS_REC},
		{source: "/dev", target: at("/dev"), flags: unix.MS_BIND},
		{source: "devpts", target: at("/dev/pts"), fstype: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{source: "tmpfs", target: at("/dev/shm"), fstype: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{source: "tmpfs", target: at("/run"), fstype: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755"},
	}
}

func (b Bind) do(root string) error {
	target := filepath.Join(root, b.Target)
	if err := (mount{source: b.Source, target: target, flags: unix.MS_BIND}).do(); err != nil {
		return err
	}
	if !b.ReadOnly {
		return nil
	}
	// The kernel takes "read only" of a bind only in a second step.
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// pivot makes a mounted directory the root and lets go of the old one.
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the machine's root: %w", err)
	}
	return os.Chdir("/")
}

// setSysctl sets a kernel parameter, or lays a file with the value over it.
func setSysctl(s Sysctl) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(s.Name, ".", "/"))
	if !s.Pretend {
		if err := os.WriteFile(path, []byte(s.Value), 0o644); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
		return nil
	}
	const dir = "/run/sysctl"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, s.Name)
	if err := os.WriteFile(file, []byte(s.Value+"\n"), 0o644); err != nil {
		return err
	}
	return mount{source: file, target: path, flags: unix.MS_BIND}.do()
}
