// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package box runs a set of processes in namespaces of their own. A box is one
// child of the supervisor and the first process of its PID namespace, so that
// the kernel ends everything in the box, with its mounts and links, when the
// box or the supervisor ends in whatever way. Nodes are boxes with a root file
// system and a network of their own; the Deckhouse side is a box on the
// machine's own file system and network.
package box

import (
	"reflect"

	"github.com/deckhouse/virtualization/sandbox/internal/network"
)

// Spec describes a box without its processes.
type Spec struct {
	Name string
	// Cgroup holds the box, relative to the root of every hierarchy. Parents
	// of it may be made for the box's own use, see Delegated.
	Cgroup string
	// Delegated is a cgroup made for processes in the box to divide further.
	Delegated string
	// Logs is the directory of the box's logs.
	Logs string
	// Root is the box's file system; none means the machine's.
	Root *Root
	// Uplink is the box's network; none means the machine's.
	Uplink *network.Uplink
	// Sysctls are kernel parameters of the box.
	Sysctls []Sysctl
}

// Equal says whether a running box needs no new start for another specification.
func (s Spec) Equal(o Spec) bool { return reflect.DeepEqual(s, o) }

// Root is a file system: a directory that stays as it is, with a layer over it
// that takes the changes.
type Root struct {
	// Lower is the directory that is only read.
	Lower string
	// Upper, Work and Mount are directories of this box alone.
	Upper, Work, Mount string
	// Binds show directories of the machine in the box.
	Binds []Bind
	// Files are written before anything starts.
	Files []File
}

// Bind shows a directory of the machine at a place in the box.
type Bind struct {
	Source   string
	Target   string
	ReadOnly bool
}

// File is a file with its content.
type File struct {
	Path    string
	Content string
}

// Sysctl is a kernel parameter such as net.ipv4.ip_forward.
type Sysctl struct {
	Name, Value string
	// Pretend shows the value in the box without telling the kernel: the
	// parameter belongs to the whole machine, and a program in the box insists
	// on a value of it.
	Pretend bool
}
