// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures on a running sandbox how fast images and disks are made,
// and beside that, in the same run on the same machine, what cannot be beaten and
// what CDI needs for the same:
//
//	make bench BENCH=--only=qcow2
//
// It needs qemu-img, xz and curl, and space for about three times the data. What
// it measures is printed as a Markdown table; nothing else is left behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	mib = 1 << 20
	// guestsURL is where the sandbox serves its folder of guests.
	guestsURL    = "http://guests.sandbox.svc.cluster.local/"
	guestsFolder = "storage/guests"
)

// options are the command line.
type options struct {
	state        string
	storageClass string
	// sizes in MiB.
	data, disk             int64
	sparseData, sparseDisk int64
	packedData             int64
	only                   string
	cdi                    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "bench",
		Short:         "Measure how fast images and disks are made on the running sandbox",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(command *cobra.Command, _ []string) error { return run(command.Context(), o) },
	}
	state := os.Getenv("SANDBOX_STATE")
	if state == "" {
		state = "/var/lib/virtualization-sandbox"
	}
	flags := command.Flags()
	flags.StringVar(&o.state, "state", state, "the sandbox's directory")
	flags.StringVar(&o.storageClass, "storage-class", "sandbox", "storage class of the volumes")
	flags.Int64Var(&o.data, "data", 2048, "MiB of data in the qcow2 and vmdk images")
	flags.Int64Var(&o.disk, "disk", 10240, "MiB of the disk that they are of")
	flags.Int64Var(&o.sparseData, "sparse-data", 1024, "MiB of data in the sparse raw image")
	flags.Int64Var(&o.sparseDisk, "sparse-disk", 20480, "MiB of the disk that it is of")
	flags.Int64Var(&o.packedData, "packed-data", 1024, "MiB of data in the raw.xz image")
	flags.StringVar(&o.only, "only", "", "regular expression of the rows to measure")
	flags.BoolVar(&o.cdi, "cdi", true, "let CDI do the same")
	return command
}

func run(ctx context.Context, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	for _, program := range []string{"qemu-img", "xz", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is needed: install it (qemu-utils, xz-utils, curl)", program)
		}
	}
	cluster, err := connect(o)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(o.state, guestsFolder), "bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the images: %w; is the sandbox running?", err)
	}
	defer os.RemoveAll(dir)
	// The server of the guests is another user.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := cluster.begin(ctx); err != nil {
		return err
	}
	defer cluster.end()
	return measure(ctx, o, cluster, images{dir: dir, options: o}, only)
}

// measure goes through the rows and prints the table, also of what was measured
// before an error.
func measure(ctx context.Context, o options, cluster *cluster, images images, only *regexp.Regexp) error {
	var table table
	defer func() { fmt.Print(table) }()
	var problems []error
	for _, w := range works(o) {
		if !only.MatchString(w.title) || ctx.Err() != nil {
			continue
		}
		row, err := w.measure(ctx, o, cluster, images)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", w.title, err))
		}
		table = append(table, row)
	}
	return errors.Join(append(problems, ctx.Err())...)
}

// work is one row of the table.
type work struct {
	title string
	// image makes the file that the work begins with.
	image func(images, context.Context) (file string, err error)
	// ours makes the objects; the last one is what is waited for.
	ours func(c *cluster, from *v1alpha2.HTTPSource) []object
	// checksum is true where our importer has to compute one of what it moves.
	checksum bool
	// unpack is true where the local limit is xz and not qemu-img.
	unpack bool
	// disk is the size of the volume in MiB.
	disk int64
}

func works(o options) []work {
	size := fmt.Sprintf("%d MiB of data in a %d MiB ", o.data, o.disk)
	volume := func(c *cluster, from *v1alpha2.HTTPSource) []object { return []object{c.diskFromHTTP(from)} }
	registry := func(c *cluster, from *v1alpha2.HTTPSource) []object { return []object{c.imageFromHTTP(from)} }
	both := func(c *cluster, from *v1alpha2.HTTPSource) []object {
		return []object{c.imageFromHTTP(from), c.diskFromImage()}
	}
	// CDI is always told how large the disk is; ours finds that out, unless told as well.
	sized := func(c *cluster, from *v1alpha2.HTTPSource) []object {
		return []object{c.sizedDiskFromHTTP(from, o.sparseDisk)}
	}
	sparse := fmt.Sprintf("%d MiB of data in a sparse %d MiB raw", o.sparseData, o.sparseDisk)
	return []work{
		{title: size + "qcow2, HTTP to a Block volume", image: images.qcow2, ours: volume, disk: o.disk},
		{title: size + "qcow2 with its sha256, HTTP to a Block volume", image: images.qcow2, ours: volume, checksum: true, disk: o.disk},
		{title: size + "qcow2, HTTP to DVCR", image: images.qcow2, ours: registry, disk: o.disk},
		{title: size + "qcow2, DVCR to a Block volume", image: images.qcow2, ours: both, disk: o.disk},
		{title: sparse + ", HTTP to a Block volume", image: images.sparse, ours: volume, disk: o.sparseDisk},
		{title: sparse + ", HTTP to a Block volume of given size", image: images.sparse, ours: sized, disk: o.sparseDisk},
		{title: size + "streamOptimized vmdk, HTTP to a Block volume", image: images.vmdk, ours: volume, disk: o.disk},
		{title: fmt.Sprintf("%d MiB of data in a raw.xz, HTTP to a Block volume", o.packedData), image: images.packed, ours: volume, unpack: true, disk: o.packedData},
	}
}

func (w work) measure(ctx context.Context, o options, c *cluster, images images) (row, error) {
	row := row{title: w.title}
	file, err := w.image(images, ctx)
	if err != nil {
		return row, fmt.Errorf("make the image: %w", err)
	}
	if row.download, err = download(ctx, file, images.dir); err != nil {
		return row, err
	}
	if row.convert, err = convert(ctx, file, images.dir, w.unpack); err != nil {
		return row, err
	}
	url := guestsURL + filepath.Base(images.dir) + "/" + filepath.Base(file)
	from := &v1alpha2.HTTPSource{URL: url}
	if w.checksum {
		if from.Checksum, err = sha256Of(file); err != nil {
			return row, err
		}
	}
	if row.ready, row.data, err = c.make(ctx, w.ours(c, from)); err != nil {
		return row, err
	}
	if !o.cdi {
		return row, nil
	}
	row.cdi, err = c.dataVolume(ctx, url, w.disk)
	return row, err
}
