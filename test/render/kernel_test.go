// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a folder in the place of a node's root, with commands in the place of the node's own.
type machine struct {
	node
	release, cpu, requests string
	// loadable are the modules that modprobe finds.
	loadable []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	content, _ := at(t, find(t, render(t, Case{}), "NodeGroupConfiguration", "virtualization-kernel.sh"), "spec.content").(string)
	root := t.TempDir()
	for _, place := range []string{"/etc/", "/proc/", "/sys/"} {
		content = strings.ReplaceAll(content, " "+place, " "+root+place)
		content = strings.ReplaceAll(content, `"`+place, `"`+root+place)
	}
	return &machine{
		node:    node{t: t, root: root, script: content},
		release: "6.1.0-18-amd64", cpu: "flags : fpu vmx sse", requests: "65536", loadable: []string{"tun", "vhost_net", "kvm_intel", "kvm_amd"},
	}
}

// configure runs the script and returns what it says.
func (m *machine) configure() string {
	m.t.Helper()
	m.write("/proc/cpuinfo", m.cpu+"\n")
	m.write("/proc/sys/fs/aio-max-nr", m.requests+"\n")
	m.write("/bin/uname", "#!/bin/sh\necho "+m.release+"\n")
	m.write("/bin/modprobe", "#!/bin/sh\ncase ' "+strings.Join(m.loadable, " ")+" ' in *\" $1 \"*) mkdir -p "+m.root+"/sys/module/$1;; *) exit 1;; esac\n")
	for _, name := range []string{"uname", "modprobe"} {
		if err := os.Chmod(filepath.Join(m.root, "bin", name), 0o700); err != nil {
			m.t.Fatal(err)
		}
	}
	command := exec.Command("bash", "--noprofile", "--norc", "-Eeuo", "pipefail", "-c", m.script)
	command.Env = append(os.Environ(), "PATH="+m.root+"/bin:"+os.Getenv("PATH"))
	output, err := command.CombinedOutput()
	if err != nil {
		m.t.Fatalf("script: %v\n%s", err, output)
	}
	return strings.ReplaceAll(string(output), m.root, "")
}

func (m *machine) loaded() []string {
	m.t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.root, "sys/module"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestNodesArePreparedForMachines(t *testing.T) {
	m := newMachine(t)
	if said := m.configure(); said != "" {
		t.Errorf("said %q", said)
	}
	if got := m.loaded(); !slices.Equal(got, []string{"kvm_intel", "tun", "vhost_net"}) {
		t.Errorf("loaded %v", got)
	}
	if got := m.read("/etc/modules-load.d/virtualization.conf"); got != "tun\nvhost_net\nkvm_intel\n" {
		t.Errorf("modules at the next start: %q", got)
	}
	if got := m.read("/etc/sysctl.d/98-virtualization.conf"); got != "fs.aio-max-nr = 1048576\n" {
		t.Errorf("settings at the next start: %q", got)
	}
	if got := m.read("/proc/sys/fs/aio-max-nr"); got != "1048576\n" {
		t.Errorf("requests now: %q", got)
	}
}

// What is right stays: bashible may run the script at any time.
func TestPreparedNodesStayAsTheyAre(t *testing.T) {
	m := newMachine(t)
	m.configure()
	path := filepath.Join(m.root, "etc/modules-load.d/virtualization.conf")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	m.requests = "1048576"
	if said := m.configure(); said != "" {
		t.Errorf("said %q", said)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("a file that was right was replaced: %v", err)
	}
}

func TestAdministratorsMayWantMore(t *testing.T) {
	m := newMachine(t)
	m.requests = "4194304"
	m.configure()
	if got := m.read("/proc/sys/fs/aio-max-nr"); got != "4194304\n" {
		t.Errorf("requests now: %q", got)
	}
	if slices.Contains(m.files(), "/etc/sysctl.d/98-virtualization.conf") {
		t.Error("the administrator's setting would be overwritten at the next start")
	}
}

// A node that can't run machines is told of, and nothing else happens to it.
func TestNodesThatCanNotRunMachines(t *testing.T) {
	const (
		noHelp = "virtualization: the processor gives machines no help, or the firmware hides it\n"
		old    = "is older than 5.7, and machines are not known to run well on it\n"
	)
	for _, test := range []struct {
		name         string
		release, cpu string
		loadable     []string
		said         string
		loaded       []string
	}{
		{"AMD", "5.7.0", "flags : svm", []string{"tun", "vhost_net", "kvm_amd"}, "", []string{"kvm_amd", "tun", "vhost_net"}},
		{"no help", "5.15.0-generic", "flags : svm_lock", []string{"tun", "vhost_net"}, noHelp, []string{"tun", "vhost_net"}},
		{"an old kernel", "5.4.0-190-generic", "flags : vmx", []string{"tun", "vhost_net", "kvm_intel"},
			"virtualization: kernel 5.4.0-190-generic " + old, []string{"kvm_intel", "tun", "vhost_net"}},
		{"a very old kernel", "4.19.0", "flags : vmx", []string{"tun", "vhost_net", "kvm_intel"}, "virtualization: kernel 4.19.0 " + old,
			[]string{"kvm_intel", "tun", "vhost_net"}},
		{"a kernel of its own", "custom", "flags : vmx", []string{"tun", "vhost_net", "kvm_intel"}, "", []string{"kvm_intel", "tun", "vhost_net"}},
		{"no modules", "6.1.0", "flags : vmx", nil, "virtualization: the kernel has no module tun\nvirtualization: the kernel has no module vhost_net\n" +
			"virtualization: the kernel has no module kvm_intel\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.release, m.cpu, m.loadable = test.release, test.cpu, test.loadable
			if said := m.configure(); said != test.said {
				t.Errorf("said %q, want %q", said, test.said)
			}
			if got := m.loaded(); !slices.Equal(got, test.loaded) {
				t.Errorf("loaded %v, want %v", got, test.loaded)
			}
		})
	}
}

func TestKernelConfiguration(t *testing.T) {
	configuration := find(t, render(t, Case{}), "NodeGroupConfiguration", "virtualization-kernel.sh")
	if content, _ := at(t, configuration, "spec.content").(string); strings.Contains(content, "{{") {
		t.Error("the script holds what bashible takes for a template")
	}
	if _, found := lookup(render(t, matrix["bare platform"]), "NodeGroupConfiguration", "virtualization-kernel.sh"); found {
		t.Error("nodes are configured though nobody does it")
	}
}
