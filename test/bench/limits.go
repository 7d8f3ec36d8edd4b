// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// download measures the first limit: curl to a file that is then synced. The
// server is this process, so no network is in between.
func download(ctx context.Context, file, dir string) (time.Duration, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(file))), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	target := filepath.Join(dir, "limit.download")
	defer os.Remove(target)
	// The second counts: the first has brought the file into memory, where all
	// later readers find it.
	var took time.Duration
	for range 2 {
		_ = os.Remove(target)
		began := time.Now()
		if err := command(ctx, "curl", "--fail", "--silent", "--show-error", "--output", target, "http://"+listener.Addr().String()+"/"+filepath.Base(file)); err != nil {
			return 0, err
		}
		if err := syncFile(target); err != nil {
			return 0, err
		}
		took = time.Since(began)
	}
	return took, nil
}

// convert measures the second limit: qemu-img from file to file, or xz for what
// is packed, and the result synced.
func convert(ctx context.Context, file, dir string, unpack bool) (time.Duration, error) {
	target := filepath.Join(dir, "limit.convert")
	defer os.Remove(target)
	began := time.Now()
	var err error
	if unpack {
		err = unpackTo(ctx, file, target)
	} else {
		err = command(ctx, "qemu-img", "convert", "-O", "raw", file, target)
	}
	if err != nil {
		return 0, err
	}
	if err := syncFile(target); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

func unpackTo(ctx context.Context, file, target string) error {
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", file)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd.Run()
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
