// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sizing holds the rules for how large a machine may be: how its cores
// are spread over sockets, what a share of a core is, and which sizing policy of
// its class it falls under. It is pure; admission and reconciliation ask the
// same functions, so that they never disagree.
package sizing

import "fmt"

// MaxCores is the largest number of cores of one machine.
const MaxCores = 248

// Topology is how the cores of a machine are spread.
type Topology struct {
	Sockets        int32
	CoresPerSocket int32
}

// topologyBands lists, by size, how many sockets a machine has. Guests are
// licensed and scheduled by socket, so that few sockets are better; but what
// grows while running are sockets, so that large machines have some.
var topologyBands = []struct{ upTo, sockets int32 }{
	{upTo: 16, sockets: 1},
	{upTo: 32, sockets: 2},
	{upTo: 64, sockets: 4},
	{upTo: MaxCores, sockets: 8},
}

// socketsOf is how many sockets a machine with the cores has, or 0 when it would be
// too large.
func socketsOf(cores int32) int32 {
	for _, band := range topologyBands {
		if cores <= band.upTo {
			return band.sockets
		}
	}
	return 0
}

// TopologyOf spreads the cores. The error names the nearest counts that can be
// spread evenly.
func TopologyOf(cores int32) (Topology, error) {
	sockets := socketsOf(cores)
	switch {
	case cores < 1:
		return Topology{}, fmt.Errorf("spec.cpu.cores is %d: a machine needs at least 1", cores)
	case sockets == 0:
		return Topology{}, fmt.Errorf("spec.cpu.cores is %d: use at most %d", cores, MaxCores)
	}
	if rest := cores % sockets; rest != 0 {
		return Topology{}, fmt.Errorf("spec.cpu.cores is %d: it cannot be spread evenly over %d sockets; use %d or %d",
			cores, sockets, cores-rest, cores-rest+sockets)
	}
	return Topology{Sockets: sockets, CoresPerSocket: cores / sockets}, nil
}
