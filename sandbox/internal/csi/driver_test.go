// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestSanity runs the Kubernetes project's conformance test for CSI drivers, with
// real loop devices.
func TestSanity(t *testing.T) {
	directory := t.TempDir()
	socket := filepath.Join(directory, "csi.sock")
	run(t, Options{
		Socket: socket, Root: filepath.Join(directory, "volumes"), Node: "node-1", Log: slog.New(slog.DiscardHandler),
	})
	config := sanity.NewTestConfig()
	config.TargetPath, config.StagingPath = filepath.Join(directory, "target"), filepath.Join(directory, "staging")
	config.TestVolumeSize = 16 << 20
	config.TestVolumeExpandSize = 32 << 20
	suite := sanity.GinkgoTest(&config)
	// The suite's own way to connect waits for ever more news of a connection that was
	// ready before it looked. With a connection, and no address, it makes none.
	suite.Conn = connect(t, socket)
	defer suite.Finalize()
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "CSI driver")
}

// run keeps the driver up as long as the test runs.
func run(t *testing.T, options Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, options) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// connect returns a connection over which the driver has answered once.
func connect(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := csi.NewIdentityClient(connection).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the driver does not answer: %v", err)
	}
	return connection
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
