// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ports chooses where Deckhouse's side of a sandbox is reached on the machine.
// The choice is kept in a file, since others are told of it: each sandbox has ports of
// its own, and keeps them for as long as it lives.
package ports

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/deckhouse/virtualization/sandbox/internal/pki"
)

// Sandboxes take the first of these blocks that is free. They lie below the range that
// the kernel gives to outgoing connections, one of which may have any port of it.
const (
	loopback   = "127.0.0.1"
	firstBlock = 19650
	blockSize  = 10
	blocks     = 30
)

// Addresses are where Deckhouse's side listens on the machine.
type Addresses struct {
	// Metrics serves the metrics of Deckhouse and of the hooks.
	Metrics string `json:"metrics"`
	// Admission judges ModuleConfigs.
	Admission string `json:"admission"`
	// Registry has the releases of the module.
	Registry string `json:"registry"`
}

// Load returns the addresses that were chosen; os.ErrNotExist if none were.
func Load(file string) (Addresses, error) {
	var kept Addresses
	content, err := os.ReadFile(file)
	if err != nil {
		return kept, err
	}
	if err := json.Unmarshal(content, &kept); err != nil {
		return kept, fmt.Errorf("%s: %w: remove it and type \"sandbox up\"", file, err)
	}
	return kept, nil
}

// Ensure returns the addresses that were chosen before, or chooses free ones and keeps
// them in the file. Those that nobody of ours serves may have become somebody else's.
func Ensure(file string, served bool) (Addresses, error) {
	kept, err := Load(file)
	if err == nil && (served || free(kept.Metrics, kept.Admission, kept.Registry) == nil) {
		return kept, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return kept, err
	}
	chosen, err := choose()
	if err != nil {
		return chosen, err
	}
	content, err := json.Marshal(chosen)
	if err != nil {
		return chosen, err
	}
	return chosen, pki.WriteFile(file, append(content, '\n'), 0o644)
}

// choose finds a block of ports of which the sandbox can have all.
func choose() (Addresses, error) {
	var err error
	for i := range blocks {
		at := func(offset int) string {
			return net.JoinHostPort(loopback, strconv.Itoa(firstBlock+i*blockSize+offset))
		}
		a := Addresses{Metrics: at(0), Admission: at(1), Registry: at(2)}
		if err = free(a.Metrics, a.Admission, a.Registry); err == nil {
			return a, nil
		}
	}
	return Addresses{}, fmt.Errorf("no ports are free from %d to %d on %s, end what has them: %w",
		firstBlock, firstBlock+blocks*blockSize-1, loopback, err)
}

// free tells whether addresses can be listened at.
func free(addresses ...string) error {
	for _, address := range addresses {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return err
		}
	}
	return nil
}
