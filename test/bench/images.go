// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// pieceMiB is how much data lies together on a disk: files are scattered, but not
// down to single clusters.
const pieceMiB = 4

// images makes the files, each once.
type images struct {
	dir     string
	options options
}

// once returns the file's path and calls the function if it is not there yet.
func (i images) once(name string, create func(path string) error) (string, error) {
	path := filepath.Join(i.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := create(path); err != nil {
		_ = os.Remove(path)
		return "", err
	}
	return path, nil
}

func (i images) qcow2(ctx context.Context) (string, error) {
	return i.once("disk.qcow2", func(path string) error {
		return i.from(ctx, path, i.options.data, i.options.disk, "qemu-img", "convert", "-f", "raw", "-O", "qcow2")
	})
}

func (i images) vmdk(ctx context.Context) (string, error) {
	return i.once("disk.vmdk", func(path string) error {
		return i.from(ctx, path, i.options.data, i.options.disk, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized")
	})
}

func (i images) sparse(context.Context) (string, error) {
	return i.once("sparse.raw", func(path string) error { return writeDisk(path, i.options.sparseData, i.options.sparseDisk) })
}

func (i images) packed(ctx context.Context) (string, error) {
	return i.once("packed.raw.xz", func(path string) error {
		raw := path[:len(path)-len(".xz")]
		if err := writeDisk(raw, i.options.packedData, i.options.packedData); err != nil {
			return err
		}
		return command(ctx, "xz", "-1", "-T0", raw)
	})
}

// from converts a disk that is removed afterwards.
func (i images) from(ctx context.Context, path string, data, disk int64, converter ...string) error {
	raw := path + ".raw"
	defer os.Remove(raw)
	if err := writeDisk(raw, data, disk); err != nil {
		return err
	}
	return command(ctx, converter[0], append(converter[1:], raw, path)...)
}

// writeDisk makes a sparse raw disk with pieces of data all over it. The data has
// four bits in each byte, so that it can be compressed like that of real disks.
func writeDisk(path string, dataMiB, diskMiB int64) error {
	if dataMiB < 1 || dataMiB > diskMiB {
		return fmt.Errorf("%d MiB of data do not fit on a disk of %d MiB: at least 1 and at most all of it", dataMiB, diskMiB)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(diskMiB * mib); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	pieces := (dataMiB + pieceMiB - 1) / pieceMiB
	for n := range pieces {
		// All of the data is written, also where it is no multiple of a piece.
		begin, end := dataMiB*n/pieces, dataMiB*(n+1)/pieces
		buffer := make([]byte, (end-begin)*mib)
		_, _ = random.Read(buffer)
		for i := range buffer {
			buffer[i] &= 0x0f
		}
		if n == 0 {
			buffer[510], buffer[511] = 0x55, 0xaa
		}
		hole := (diskMiB - dataMiB) * n / pieces
		if _, err := file.WriteAt(buffer, (begin+hole)*mib); err != nil {
			return err
		}
	}
	return file.Sync()
}

// sha256Of is the checksum of a file as a user would give it.
func sha256Of(path string) (*v1alpha2.Checksum, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return nil, fmt.Errorf("compute the checksum of %s: %w", path, err)
	}
	return &v1alpha2.Checksum{SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// command runs a program and makes an error of what it says.
func command(ctx context.Context, name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
