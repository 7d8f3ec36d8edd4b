// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// shutdownGrace is how long running requests may go on after a signal. An
// upload that does not make it is continued or repeated by its importer.
const shutdownGrace = 15 * time.Second

// Config is what the registry's process is started with.
type Config struct {
	Root string
	// S3SettingsDir is the folder with what ReadBucket reads, in place of Root; empty for a directory.
	S3SettingsDir      string
	Address            string
	TLSCertFile        string
	TLSKeyFile         string
	TokenPublicKeyFile string
	HTTPSecretFile     string
	// GCSchedule is when unused images are collected, as a cron expression. Empty
	// leaves it to deletions. GCGrace is how long a push may take from its last
	// blob to its manifest.
	GCSchedule string
	GCGrace    time.Duration
	// HealthAddress serves /healthz and /readyz, MetricsAddress /metrics; both
	// over plain HTTP, and not at all when empty.
	HealthAddress  string
	MetricsAddress string
}

// Run serves the registry until the context ends.
func Run(ctx context.Context, config Config, logger *slog.Logger) error {
	schedule, err := gc.ParseSchedule(config.GCSchedule)
	if err != nil {
		return fmt.Errorf("--gc-schedule: %w", err)
	}
	bucket, err := config.bucket()
	if err != nil {
		return err
	}
	handler, collector, err := newHandler(ctx, config, bucket, logger)
	if err != nil {
		return err
	}
	certificates, err := certwatcher.New(config.TLSCertFile, config.TLSKeyFile)
	if err != nil {
		return fmt.Errorf("load the serving certificate %s: %w", config.TLSCertFile, err)
	}
	prometheus.MustRegister(append(Collectors(config.directory()), gc.Collectors()...)...)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return certificates.Start(ctx) })
	group.Go(func() error {
		collector.Run(ctx, schedule)
		return nil
	})
	group.Go(func() error { return serve(ctx, registryServer(config.Address, handler, certificates), logger) })
	if config.HealthAddress != "" {
		group.Go(func() error {
			return serve(ctx, plainServer(config.HealthAddress, healthHandler(config.directory())), logger)
		})
	}
	if config.MetricsAddress != "" {
		group.Go(func() error { return serve(ctx, plainServer(config.MetricsAddress, metricsHandler()), logger) })
	}
	return group.Wait()
}

// bucket reads how the bucket is reached; nil if images are kept in a directory.
func (c Config) bucket() (*Bucket, error) {
	if c.S3SettingsDir == "" {
		return nil, nil
	}
	return ReadBucket(c.S3SettingsDir)
}

func (c Config) driver(ctx context.Context, bucket *Bucket, logger *slog.Logger) (storagedriver.StorageDriver, error) {
	if bucket == nil {
		return NewDriver(ctx, c.Root)
	}
	driver, err := NewBucketDriver(ctx, bucket)
	if err != nil {
		return nil, err
	}
	if err := abortCopies(ctx, bucket, logger); err != nil {
		// That is space only: images are served and taken without.
		logger.Warn("removing the parts of unfinished copies", "error", err)
	}
	return driver, nil
}

// directory is where images are kept; empty if that is a bucket.
func (c Config) directory() string {
	if c.S3SettingsDir != "" {
		return ""
	}
	return c.Root
}

// newHandler makes the registry and what collects its garbage.
func newHandler(ctx context.Context, config Config, bucket *Bucket, logger *slog.Logger) (http.Handler, *gc.Collector, error) {
	verifier, err := newVerifier(config.TokenPublicKeyFile)
	if err != nil {
		return nil, nil, err
	}
	secret, err := os.ReadFile(config.HTTPSecretFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read --http-secret-file: %w", err)
	}
	secret = bytes.TrimSpace(secret)
	if len(secret) == 0 {
		return nil, nil, fmt.Errorf("--http-secret-file %s is empty", config.HTTPSecretFile)
	}
	driver, err := config.driver(ctx, bucket, logger)
	if err != nil {
		return nil, nil, err
	}
	if config.GCGrace == 0 {
		config.GCGrace = gc.DefaultGrace
	}
	guard := gc.NewGuard(clock.RealClock{}, config.GCGrace)
	collector := gc.New(gc.Options{Driver: driver, Guard: guard, Clock: clock.RealClock{}, Logger: logger})
	handler, err := NewHandler(ctx, Options{
		Root:           config.Root,
		Bucket:         bucket,
		Verifier:       verifier,
		HTTPSecret:     string(secret),
		Guard:          guard,
		Deleted:        collector.Trigger,
		RequestMetrics: true,
	})
	return handler, collector, err
}

func newVerifier(file string) (*token.Verifier, error) {
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --token-public-key-file: %w", err)
	}
	verifier, err := token.NewVerifier(key, clock.RealClock{})
	if err != nil {
		return nil, fmt.Errorf("--token-public-key-file %s: %w", file, err)
	}
	return verifier, nil
}

func registryServer(address string, handler http.Handler, certificates *certwatcher.CertWatcher) *http.Server {
	server := plainServer(address, handler)
	server.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificates.GetCertificate,
	}
	return server
}

// plainServer bounds what a client can hold open before it has said what it
// wants. Bodies have no deadline: an image may take hours.
func plainServer(address string, handler http.Handler) *http.Server {
	return &http.Server{
		Addr:              address,
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// healthHandler tells of a storage directory that is gone. A bucket that can't be reached for a while is told to whoever
// asks for an image: taking the registry out of its Service would only hide why.
func healthHandler(root string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if root == "" {
			fmt.Fprintln(w, "ok")
			return
		}
		if _, err := os.Stat(root); err != nil {
			http.Error(w, "the storage directory cannot be read: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	return mux
}

// serve runs the server, over TLS if it has a certificate, until the context
// ends and then lets running requests finish.
func serve(ctx context.Context, server *http.Server, logger *slog.Logger) error {
	listener, err := net.Listen("tcp", server.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	logger.Info("listening", "address", listener.Addr().String())
	if server.TLSConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", server.Addr, err)
	}
	if err := <-stopped; err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving %s: %w", server.Addr, err)
	}
	return nil
}
