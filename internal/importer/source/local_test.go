// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func localDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disk.img"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLocalDisk(t *testing.T) {
	dir := localDir(t)
	for _, path := range []string{dir, filepath.Join(dir, "disk.img")} {
		source := NewLocal(path)
		stream, err := source.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		wantContent(t, got, err)
		if stream.Size() != 3<<20 || stream.Received() != 3<<20 || stream.Validator() == "" {
			t.Errorf("size %d, received %d, validator %q", stream.Size(), stream.Received(), stream.Validator())
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
		random, err := source.OpenRanged(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 10)
		if _, err := random.ReadAt(p, 1<<20); err != nil || !bytes.Equal(p, content[1<<20:1<<20+10]) {
			t.Errorf("at random: %v", err)
		}
		if n, err := random.ReadAt(p, 3<<20-5); n != 5 || !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %d, %v", n, err)
		}
		random.Close()
	}
}

func TestLocalDiskFromTheMiddle(t *testing.T) {
	dir := localDir(t)
	source := NewLocal(dir)
	first, err := source.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	validator := first.Validator()
	first.Close()
	rest, err := source.OpenAt(context.Background(), 2<<20, validator)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rest)
	if err != nil || !bytes.Equal(got, content[2<<20:]) || rest.Size() != 3<<20 {
		t.Errorf("%d of %d bytes, %v", len(got), rest.Size(), err)
	}
	rest.Close()
	var changed *ChangedError
	if _, err := source.OpenAt(context.Background(), 4<<20, validator); !errors.As(err, &changed) {
		t.Errorf("behind the end: %v", err)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "disk.img"), later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := source.OpenAt(context.Background(), 2<<20, validator); !errors.As(err, &changed) {
		t.Errorf("written meanwhile: %v", err)
	}
}

func TestNoLocalDisk(t *testing.T) {
	_, err := NewLocal(t.TempDir()).Open(context.Background())
	wantError(t, err, "SourceNotFound", false, "", "holds no disk")
	_, err = NewLocal("/dev/null").OpenRanged(context.Background())
	wantError(t, err, "SourceUnreachable", false, "", "neither a file nor a block device")
	_, err = NewLocal("/dev/null").OpenAt(context.Background(), 0, "")
	wantError(t, err, "SourceUnreachable", false, "", "neither a file nor a block device")
}

func TestLocalReadsEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	source := NewLocal(localDir(t))
	stream, err := source.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	random, err := source.OpenRanged(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	cancel()
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := random.ReadAt(make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
