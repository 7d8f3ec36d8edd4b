// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/release"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serving starts the command on a free port and returns the address.
func serving(t *testing.T, folder string) string {
	t.Helper()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"serve", "--listen=" + address, "--folder=" + folder}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for range 1000 {
		if c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address); err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the registry never listened")
	return ""
}

func TestPublishedModuleIsServed(t *testing.T) {
	kept, module := t.TempDir(), t.TempDir()
	stale := write(t, filepath.Join(kept, "sha256", "0123"), "a layer of the registry before")
	address := serving(t, kept)
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("layers that nobody can ask for are kept: %v", err)
	}
	write(t, filepath.Join(module, "module.yaml"), "name: my-module\n")
	write(t, filepath.Join(module, "templates/a.yaml"), "kind: ConfigMap\n")
	write(t, filepath.Join(module, "CHANGELOG/v1.2.3.yaml"), "fixes: [better]\n")
	write(t, filepath.Join(module, "internal/code.go"), "package internal\n")
	err := run(t.Context(), []string{
		"publish", "--registry=" + address + "/modules/my-module", "--version=v1.2.3", "--channel=Beta", "--module-dir=" + module,
		"--hook-binary=" + write(t, filepath.Join(t.TempDir(), "my-hooks"), "#!/bin/sh\n"),
		"--digests-file=" + write(t, filepath.Join(t.TempDir(), "d.json"), `{"dvcr":"sha256:1"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	r := release.Registry{Module: address + "/modules/my-module", Plain: true}
	if offer, err := r.Offer(t.Context(), "beta"); err != nil || offer.Version.Original() != "v1.2.3" || string(offer.Changelog) != "fixes: [better]\n" {
		t.Errorf("the channel holds %v, %q, %v", offer.Version, offer.Changelog, err)
	}
	folder, err := r.Unpack(t.Context(), "v1.2.3", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"module.yaml": true, "templates/a.yaml": true, "images_digests.json": true, "hooks/my-hooks": true,
		"internal/code.go": false, "CHANGELOG/v1.2.3.yaml": false,
	} {
		if _, err := os.Stat(filepath.Join(folder, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunSaysWhatItCan(t *testing.T) {
	for _, args := range [][]string{nil, {"push"}} {
		if err := run(t.Context(), args); err == nil || err.Error() != "say serve or publish" {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"publish", "--module-dir=" + t.TempDir()}); err == nil || !strings.Contains(err.Error(), "holds no module.yaml") {
		t.Errorf("no module: %v", err)
	}
}
