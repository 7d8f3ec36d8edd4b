// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server is the module's image registry (DVCR): distribution as a
// library with our authorization, one storage directory and an honest answer
// when that directory's volume is full.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the one storage driver in use
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

const (
	storageDriver = "filesystem"
	rootParameter = "rootdirectory"
)

// Options of the registry.
type Options struct {
	// Root is the directory that holds the images.
	Root string
	// Verifier checks the tokens of clients.
	Verifier *token.Verifier
	// HTTPSecret signs the state of uploads that clients carry from request to
	// request; it has to survive a restart for uploads to survive it.
	HTTPSecret string
	// Guard keeps what clients rely on from being collected as garbage. Without
	// one nothing may be collected.
	Guard *gc.Guard
	// Deleted is called after a manifest was deleted; it may be nil.
	Deleted func()
	// RequestMetrics adds distribution's metrics of requests to the default
	// Prometheus registry, which is possible once in a process.
	RequestMetrics bool
}

// NewHandler makes the handler of the registry's API. The context bounds the
// life of its background work.
func NewHandler(ctx context.Context, options Options) (handler http.Handler, err error) {
	switch {
	case options.Root == "":
		return nil, errors.New("the registry needs a storage directory")
	case options.Verifier == nil:
		return nil, errors.New("the registry needs a key to verify tokens with")
	case options.HTTPSecret == "":
		return nil, errors.New("the registry needs an HTTP secret")
	}
	if options.Guard == nil {
		options.Guard = gc.NewGuard(clock.RealClock{}, gc.DefaultGrace)
	}
	if options.Deleted == nil {
		options.Deleted = func() {}
	}
	// Distribution reports a bad configuration by panicking.
	defer func() {
		if problem := recover(); problem != nil {
			handler, err = nil, fmt.Errorf("configure the registry: %v", problem)
		}
	}()
	app := handlers.NewApp(ctx, distributionConfig(options))
	mux := http.NewServeMux()
	mux.Handle("/v2/", reportFullStorage(guardRequests(app, options.Guard, options.Deleted), options.Root, options.Verifier))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux, nil
}

// NewDriver reaches the storage below the registry, for garbage collection.
func NewDriver(ctx context.Context, root string) (storagedriver.StorageDriver, error) {
	driver, err := factory.Create(ctx, storageDriver, configuration.Parameters{rootParameter: root})
	if err != nil {
		return nil, fmt.Errorf("open the storage directory: %w", err)
	}
	return driver, nil
}

func distributionConfig(options Options) *configuration.Configuration {
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			storageDriver: configuration.Parameters{rootParameter: options.Root},
			"delete":      configuration.Parameters{"enabled": true},
			"redirect":    configuration.Parameters{"disable": true},
			// Distribution purges by the age of an upload, which would cut off a
			// slow one: package gc looks at the last byte instead.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
		Auth: configuration.Auth{
			accessControllerName: configuration.Parameters{verifierOption: options.Verifier},
		},
		Middleware: map[string][]configuration.Middleware{
			"storage":    {{Name: fullStorageMiddleware}, {Name: guardMiddleware, Options: configuration.Parameters{guardOption: options.Guard}}},
			"repository": {{Name: inspectMiddleware}},
		},
	}
	config.HTTP.Secret = options.HTTPSecret
	// Clients reach the registry under several names; a relative location is right under each.
	config.HTTP.RelativeURLs = true
	config.HTTP.Debug.Prometheus.Enabled = options.RequestMetrics
	return config
}
