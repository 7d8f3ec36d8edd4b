// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
)

// TestSanity runs the Kubernetes project's conformance test for CSI drivers, with
// real loop devices.
func TestSanity(t *testing.T) {
	directory := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	socket := filepath.Join(directory, "csi.sock")
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Socket: socket, Root: filepath.Join(directory, "volumes"), Node: "node-1", Log: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	config := sanity.NewTestConfig()
	config.Address = "unix://" + socket
	config.TargetPath, config.StagingPath = filepath.Join(directory, "target"), filepath.Join(directory, "staging")
	config.TestVolumeSize = 16 << 20
	config.TestVolumeExpandSize = 32 << 20
	sanity.Test(t, config)
}

func TestLoopDevicesAreSharedAndGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := attachLoop(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // the second time there is none
			if err := detachLoop(path); err != nil {
				t.Error(err)
			}
		}
		if device, err := findLoop(path); err != nil || device != "" {
			t.Errorf("still attached: %q, %v", device, err)
		}
	})
	second, err := attachLoop(path)
	if err != nil || second != first {
		t.Errorf("a second device %q, %v; want %q", second, err, first)
	}
	if err := os.Truncate(path, 3<<20); err != nil {
		t.Fatal(err)
	}
	if err := growLoop(first); err != nil {
		t.Fatal(err)
	}
	device, err := os.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	if end, err := device.Seek(0, 2); err != nil || end != 3<<20 {
		t.Errorf("size %d, %v", end, err)
	}
}
