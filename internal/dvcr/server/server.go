// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server is the module's image registry (DVCR): distribution as a
// library with our authorization, one storage directory or bucket and an honest
// answer when what comes does not fit.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// Options of the registry.
type Options struct {
	// Root is the directory that holds the images, unless a bucket does.
	Root   string
	Bucket *Bucket
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
	case options.Root == "" && options.Bucket == nil:
		return nil, errors.New("the registry needs a storage directory or a bucket")
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
	mux.Handle("/v2/", reportFullStorage(guardRequests(app, options.Guard, options.Deleted), options.fits(), options.Verifier))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux, nil
}

// fits tells how the storage says whether it takes that many bytes more.
func (o Options) fits() func(size int64) bool {
	if o.Bucket != nil {
		return func(size int64) bool { return size <= maxObject }
	}
	return onVolume(o.Root)
}

func distributionConfig(options Options) *configuration.Configuration {
	driver, parameters := storageDriver(options.Root, options.Bucket)
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			driver:     parameters,
			"delete":   configuration.Parameters{"enabled": true},
			"redirect": configuration.Parameters{"disable": true},
			// Distribution purges by the age of an upload, which would cut off a
			// slow one: package gc looks at the last byte instead.
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
		Auth: configuration.Auth{
			accessControllerName: configuration.Parameters{verifierOption: options.Verifier},
		},
		Middleware: map[string][]configuration.Middleware{
			"storage":    storageMiddleware(options),
			"repository": {{Name: inspectMiddleware}},
		},
	}
	config.HTTP.Secret = options.HTTPSecret
	// Clients reach the registry under several names; a relative location is right under each.
	config.HTTP.RelativeURLs = true
	config.HTTP.Debug.Prometheus.Enabled = options.RequestMetrics
	return config
}

// storageMiddleware is what stands in front of the storage, the last one first.
func storageMiddleware(options Options) []configuration.Middleware {
	watched := []configuration.Middleware{
		{Name: fullStorageMiddleware},
		{Name: guardMiddleware, Options: configuration.Parameters{guardOption: options.Guard}},
	}
	if options.Bucket != nil {
		return append([]configuration.Middleware{{Name: bucketMiddleware}}, watched...)
	}
	store := configuration.Middleware{Name: storeMiddleware, Options: configuration.Parameters{rootParameter: options.Root}}
	return append([]configuration.Middleware{store}, watched...)
}
