// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import "testing"

func TestTopologyOf(t *testing.T) {
	tests := []struct {
		cores, sockets, perSocket int32
		err                       string
	}{
		{cores: 1, sockets: 1, perSocket: 1},
		{cores: 15, sockets: 1, perSocket: 15},
		{cores: 16, sockets: 1, perSocket: 16},
		{cores: 17, err: "spec.cpu.cores is 17: it cannot be spread evenly over 2 sockets; use 16 or 18"},
		{cores: 18, sockets: 2, perSocket: 9},
		{cores: 32, sockets: 2, perSocket: 16},
		{cores: 33, err: "spec.cpu.cores is 33: it cannot be spread evenly over 4 sockets; use 32 or 36"},
		{cores: 36, sockets: 4, perSocket: 9},
		{cores: 64, sockets: 4, perSocket: 16},
		{cores: 65, err: "spec.cpu.cores is 65: it cannot be spread evenly over 8 sockets; use 64 or 72"},
		{cores: 72, sockets: 8, perSocket: 9},
		{cores: 248, sockets: 8, perSocket: 31},
		{cores: 249, err: "spec.cpu.cores is 249: use at most 248"},
		{cores: 0, err: "spec.cpu.cores is 0: a machine needs at least 1"},
		{cores: -4, err: "spec.cpu.cores is -4: a machine needs at least 1"},
	}
	for _, test := range tests {
		got, err := TopologyOf(test.cores)
		if text := errorText(err); text != test.err {
			t.Errorf("%d cores: error %q, want %q", test.cores, text, test.err)
		}
		if want := (Topology{Sockets: test.sockets, CoresPerSocket: test.perSocket}); got != want {
			t.Errorf("%d cores: %+v, want %+v", test.cores, got, want)
		}
	}
}

// Every count is either spread without a rest, or the counts in the error are.
func TestTopologyKeepsTheCores(t *testing.T) {
	for cores := int32(1); cores <= MaxCores; cores++ {
		topology, err := TopologyOf(cores)
		if err == nil && topology.Sockets*topology.CoresPerSocket != cores {
			t.Errorf("%d cores became %+v", cores, topology)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
