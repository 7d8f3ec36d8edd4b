// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command module-registry is a registry for releases of the module, and publishes them there.
//
//	module-registry serve --listen=127.0.0.1:19652 --folder=FOLDER
//	module-registry publish --registry=127.0.0.1:19652/modules/virtualization --version=v1.2.3 --channel=Alpha --folder=BUNDLE
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/bundle"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/release"
)

const headerTimeout = 10 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "module-registry:", err)
		os.Exit(1)
	}
}

// options are the flags of both commands.
type options struct {
	listen, folder   string
	registry         string
	moduleDir        string
	hooks            []string
	digests          string
	version, channel string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := pflag.NewFlagSet("module-registry", pflag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:19652", "address of the registry")
	flags.StringVar(&o.folder, "folder", "", "where the registry keeps layers, or where a bundle is put together")
	flags.StringVar(&o.registry, "registry", "", "address of the module's bundles")
	flags.StringVar(&o.moduleDir, "module-dir", "", "the module: its repository, or a copy of it")
	flags.StringSliceVar(&o.hooks, "hook-binary", nil, "compiled hooks of the module")
	flags.StringVar(&o.digests, "digests-file", "", "images_digests.json of the version")
	flags.StringVar(&o.version, "version", "", "version that is published, for example v1.2.3")
	flags.StringVar(&o.channel, "channel", "Alpha", "release channel that gets the version")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch flags.Arg(0) {
	case "serve":
		return serve(ctx, o)
	case "publish":
		return publish(ctx, o)
	}
	return errors.New("say serve or publish")
}

// serve keeps manifests in memory only: a registry that was started again is empty, and what it had is published again.
// So the layers of the one before are nobody's.
func serve(ctx context.Context, o options) error {
	if err := os.RemoveAll(filepath.Join(o.folder, "sha256")); err != nil {
		return err
	}
	if err := os.MkdirAll(o.folder, 0o755); err != nil {
		return err
	}
	handler := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(o.folder)), registry.Logger(log.New(os.Stderr, "", 0)))
	server := &http.Server{Addr: o.listen, Handler: handler, ReadHeaderTimeout: headerTimeout}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func publish(ctx context.Context, o options) error {
	folder, err := os.MkdirTemp(o.folder, "bundle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	laidOut := bundle.Bundle{Source: o.moduleDir, HookBinaries: o.hooks, Target: folder}
	if _, err := laidOut.Sync(); err != nil {
		return err
	}
	if err := laidOut.AddDigests(o.digests); err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(o.moduleDir, "CHANGELOG", o.version+".yaml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return release.Registry{Module: o.registry, Plain: true}.Publish(ctx, folder, o.version, o.channel, changelog)
}
