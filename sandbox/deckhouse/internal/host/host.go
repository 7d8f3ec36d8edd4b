// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
	addonoperator "github.com/flant/addon-operator/pkg/addon-operator"
	"github.com/flant/addon-operator/pkg/module_manager/models/modules/events"
	"github.com/flant/addon-operator/pkg/utils"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/admission"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/backend"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/bundle"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/conversion"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/crd"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/platform"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/release"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// ErrRestart asks for a new process: the module changed in a way that is read at start only.
var ErrRestart = errors.New("the module's version, hooks, schemas, CRDs or definition changed")

const (
	// eventBuffer keeps addon-operator from waiting for the reports.
	eventBuffer = 100
	// watchInterval is how soon an edited template or a new image is noticed.
	watchInterval = time.Second
)

// Host runs one module.
type Host struct {
	options Options
	logger  *log.Logger

	dynamic    dynamic.Interface
	kubernetes kubernetes.Interface
	bundle     bundle.Bundle
	// seenFiles and seenDigests are what was there before it was read: what is
	// edited since then is noticed, also during the start.
	seenFiles, seenDigests string
	// seenRelease is the folder of the version that runs.
	seenRelease string
	// pending is what a copy that failed in the middle asks for already.
	pending  bundle.Change
	module   settings.Module
	cluster  *clusterWatch
	digests  atomic.Pointer[platform.Digests]
	reporter *report.Reporter
	backend  *backend.Backend
	operator *addonoperator.AddonOperator
	status   *statusLoop
}

// Run runs the module until the context ends or a restart is needed.
func Run(ctx context.Context, options Options) error {
	logger := log.NewLogger(log.WithHandlerType(log.TextHandlerType))
	logger.SetLevel(log.LogLevelFromStr(options.LogLevel))
	log.SetDefault(logger)
	h := &Host{options: options.effective(), seenRelease: options.released(), logger: logger}
	if err := h.loadModule(); err != nil {
		return err
	}
	if err := h.connect(ctx); err != nil {
		return err
	}
	if err := h.startPlatform(ctx); err != nil {
		return err
	}
	if err := h.startOperator(ctx); err != nil {
		return err
	}
	defer h.operator.Stop()
	logger.Info("running the module", slog.String("module", h.module.Definition.Name), slog.String("version", h.version()))
	go h.keeper().Run(ctx)
	return h.watchFiles(ctx, clock.RealClock{})
}

// loadModule copies the module and reads what decides about its settings.
func (h *Host) loadModule() error {
	read, err := definition.Load(h.options.ModuleDir)
	if err != nil {
		return err
	}
	if err := prepareDirs(h.options); err != nil {
		return fmt.Errorf("prepare %s: %w", h.options.WorkDir, err)
	}
	target := filepath.Join(h.options.modulesDir(), read.Name)
	h.bundle = bundle.Bundle{Source: h.options.ModuleDir, HookBinaries: h.options.HookBinaries, Target: target}
	h.seenFiles, h.seenDigests = h.bundle.Fingerprint(), bundle.Stamp(h.options.DigestsFile)
	if _, err := h.bundle.Sync(); err != nil {
		return err
	}
	schema, err := settings.LoadSchema(read.Name, target)
	if err != nil {
		return err
	}
	converter, err := conversion.Load(filepath.Join(target, "openapi", "conversions"))
	if err != nil {
		return err
	}
	h.module = settings.Module{Definition: read, Converter: converter, Schema: schema}
	return h.readDigests()
}

func (h *Host) readDigests() error {
	digests, err := platform.ReadDigests(h.options.DigestsFile)
	if err != nil {
		return err
	}
	h.digests.Store(&digests)
	return nil
}

// connect makes the clients that are ours; addon-operator makes its own.
func (h *Host) connect(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", h.options.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", h.options.Kubeconfig, err)
	}
	config.UserAgent = "deckhouse-host"
	if h.kubernetes, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if h.dynamic, err = dynamic.NewForConfig(rest.CopyConfig(config)); err != nil {
		return err
	}
	return h.waitForAPI(ctx)
}

// startPlatform installs what belongs to the platform, not to the module.
func (h *Host) startPlatform(ctx context.Context) error {
	if err := crd.Ensure(ctx, h.dynamic); err != nil {
		return err
	}
	if err := ensureNamespace(ctx, h.kubernetes, Namespace); err != nil {
		return err
	}
	if err := ensureConfiguration(ctx, h.kubernetes, h.options.Cluster); err != nil {
		return err
	}
	h.reporter = &report.Reporter{Client: h.dynamic, Events: newRecorder(ctx, h.kubernetes), Clock: clock.RealClock{}}
	for _, name := range h.options.PresentModules {
		if err := h.reporter.EnsureModule(ctx, name, report.Properties{Weight: presentWeight, Source: "Embedded"}); err != nil {
			return err
		}
	}
	err := h.reporter.EnsureModule(ctx, h.module.Definition.Name, report.Properties{
		Weight: moduleWeight, Source: "sandbox", Stage: h.module.Definition.Stage, Namespace: h.module.Definition.Namespace,
		Version: h.version(),
	})
	if err != nil {
		return err
	}
	h.cluster, err = watchCluster(ctx, h.kubernetes, func() {
		if h.backend != nil {
			h.backend.Refresh()
		}
	})
	return err
}

func (h *Host) startOperator(ctx context.Context) error {
	operator, err := newOperator(ctx, h.options, h.logger.Named("addon-operator"))
	if err != nil {
		return err
	}
	h.operator = operator
	h.module.Check, err = ownCheck(ctx, h.module.Definition.Name, h.bundle.Target, h.options.temporaryDir(), h.logger.Named("settings"))
	if err != nil {
		return err
	}
	h.status = newStatusLoop(h)
	h.backend = backend.New(backend.Options{
		Client:   h.dynamic,
		Store:    backend.Store{Client: h.kubernetes, Namespace: Namespace},
		Reporter: h.reporter,
		Module:   h.module,
		Platform: h.versions(),
		Global:   h.globalValues,
		Changed:  h.status.wake,
		Logger:   slog.New(h.logger.Handler()),
	})
	operator.StartAPIServer()
	operator.SetupKubeConfigManager(h.backend)
	if err := operator.Setup(); err != nil {
		return fmt.Errorf("set up addon-operator: %w", err)
	}
	operator.ModuleManager.SetModuleLoader(&moduleLoader{
		options: h.options, name: h.module.Definition.Name, logger: h.logger.Named("module"),
	})
	changes := make(chan events.ModuleEvent, eventBuffer)
	operator.ModuleManager.SetModuleEventsChannel(changes)
	go h.status.drain(ctx, changes)
	if err := operator.Start(ctx); err != nil {
		return fmt.Errorf("start addon-operator: %w", err)
	}
	go h.status.run(ctx)
	return h.startAdmission(ctx)
}

// startAdmission comes last: before the first verdict there is nothing to compare
// a wish with.
func (h *Host) startAdmission(ctx context.Context) error {
	if h.options.WebhookListen == "" {
		return nil
	}
	server := admission.Server{
		Listen: h.options.WebhookListen,
		URL:    h.options.WebhookURL,
		Client: h.kubernetes,
		Handler: admission.Handler{
			Module: h.module.Definition.Name, Judge: h.backend.Judge, Logger: slog.New(h.logger.Handler()),
		},
	}
	return server.Start(ctx)
}

func (h *Host) versions() definition.Platform {
	present := map[string]string{}
	for _, name := range h.options.PresentModules {
		// Modules that come with Deckhouse have no version of their own.
		present[name] = "0.0.0"
	}
	return definition.Platform{
		Deckhouse:  h.options.Cluster.DeckhouseVersion,
		Kubernetes: h.cluster.fixed.KubernetesVersion,
		Modules:    present,
	}
}

// version is the released one that runs; empty for the working tree.
func (h *Host) version() string {
	if h.seenRelease == "" {
		return ""
	}
	return filepath.Base(h.seenRelease)
}

// keeper brings other versions; the watch of the files notices that.
func (h *Host) keeper() *release.Keeper {
	return &release.Keeper{
		Client: h.dynamic, Clock: clock.RealClock{}, Logger: slog.New(h.logger.Handler()),
		Module: h.module.Definition.Name, Platform: h.versions(),
		Folder: h.options.releasesDir(), Link: h.options.releaseLink(),
	}
}

func (h *Host) globalValues(user map[string]any) map[string]any {
	return platform.Values{
		Cluster:  h.options.Cluster,
		Facts:    h.cluster.facts(),
		Registry: h.options.Registry,
		Module:   utils.ModuleNameToValuesKey(h.module.Definition.Name),
		Digests:  *h.digests.Load(),
		User:     user,
	}.Global()
}

// watchFiles brings edits of the module and new images into the cluster.
func (h *Host) watchFiles(ctx context.Context, ticks clock.WithTicker) error {
	ticker := ticks.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		if h.options.released() != h.seenRelease {
			return ErrRestart
		}
		if stamp := bundle.Stamp(h.options.DigestsFile); stamp != h.seenDigests {
			h.seenDigests = stamp
			h.reloadDigests()
		}
		if fingerprint := h.bundle.Fingerprint(); fingerprint != h.seenFiles {
			synced, err := h.reloadModule()
			if err != nil {
				return err
			}
			if synced {
				h.seenFiles = fingerprint
			}
		}
	}
}

func (h *Host) reloadDigests() {
	if err := h.readDigests(); err != nil {
		// It may be half written; the next change of the file is seen again.
		h.logger.Warn("image digests not read", slog.Any("error", err))
		return
	}
	h.logger.Info("image digests changed")
	h.backend.Refresh()
}

// reloadModule brings the module's files into its copy and says whether all of
// them are there; if not it is to be tried again.
func (h *Host) reloadModule() (synced bool, err error) {
	change, err := h.bundle.Sync()
	h.pending = max(h.pending, change)
	if err != nil {
		h.logger.Warn("the module's files not read", slog.Any("error", err))
		return false, nil
	}
	change, h.pending = h.pending, bundle.Nothing
	switch change {
	case bundle.Structure:
		return true, ErrRestart
	case bundle.Release:
		h.logger.Info("templates changed")
		return true, h.operator.ModuleManager.PushRunModuleTask(h.module.Definition.Name, false)
	}
	return true, nil
}
