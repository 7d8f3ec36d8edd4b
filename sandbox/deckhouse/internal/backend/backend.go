// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backend gives addon-operator its configuration: for the module what
// its ModuleConfig asks for, once judged, and the global values.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/flant/addon-operator/pkg/kube_config_manager/backend"
	"github.com/flant/addon-operator/pkg/kube_config_manager/config"
	"github.com/flant/addon-operator/pkg/utils"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// globalName is the ModuleConfig with the platform's own settings.
const globalName = "global"

// Reporter is told what became of each ModuleConfig.
type Reporter interface {
	ModuleConfig(ctx context.Context, name string, status report.ConfigStatus, problem string) error
}

// Options are what a Backend works with.
type Options struct {
	Client   dynamic.Interface
	Store    Store
	Reporter Reporter
	Module   settings.Module
	Platform definition.Platform
	// Global renders the global values, given the settings of the ModuleConfig "global".
	Global func(user map[string]any) map[string]any
	// Changed is called after each new verdict about the module.
	Changed func()
	Logger  *slog.Logger
}

// Backend implements addon-operator's source of configuration.
type Backend struct {
	Options

	mu         sync.Mutex
	request    settings.Request
	verdict    settings.Verdict
	globalUser map[string]any
	globalSum  string
	// globalSends counts the global values that were sent.
	globalSends int
	events      chan<- config.Event
}

var _ backend.ConfigHandler = (*Backend)(nil)

// New prepares a backend.
func New(options Options) *Backend {
	return &Backend{Options: options}
}

// Verdict returns what is asked for and what was decided about it last.
func (b *Backend) Verdict() (settings.Request, settings.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.request, b.verdict
}

// Judge decides about a request as if it had been made, and changes nothing.
func (b *Backend) Judge(request settings.Request) settings.Verdict {
	_, last := b.Verdict()
	return b.Module.Judge(request, last.Accepted, b.Platform)
}

// LoadConfig reads everything before addon-operator starts.
func (b *Backend) LoadConfig(ctx context.Context, _ ...string) (*config.KubeConfig, error) {
	accepted, err := b.Store.Load(ctx, b.Module.Definition.Name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.verdict.Accepted = accepted
	b.mu.Unlock()

	for _, name := range []string{globalName, b.Module.Definition.Name} {
		object, err := b.Client.Resource(report.ModuleConfigs).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			object = nil
		} else if err != nil {
			return nil, fmt.Errorf("read ModuleConfig %s: %w", name, err)
		}
		if err := b.observe(ctx, name, object); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	loaded := b.moduleConfig()
	loaded.Global = b.globalConfig()
	b.globalSum = loaded.Global.Checksum
	return loaded, nil
}

// StartInformer watches ModuleConfigs and sends what changes.
func (b *Backend) StartInformer(ctx context.Context, events chan config.Event) {
	b.mu.Lock()
	b.events = events
	b.mu.Unlock()
	factory := dynamicinformer.NewDynamicSharedInformerFactory(b.Client, 0)
	informer := factory.ForResource(report.ModuleConfigs).Informer()
	handle := func(object any, deleted bool) {
		if err := b.handle(ctx, object, deleted); err != nil && ctx.Err() == nil {
			b.Logger.Error("ModuleConfig could not be handled", slog.Any("error", err))
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { handle(object, false) },
		UpdateFunc: func(_, object any) { handle(object, false) },
		DeleteFunc: func(object any) { handle(object, true) },
	})
	if err != nil {
		b.Logger.Error("ModuleConfigs are not watched", slog.Any("error", err))
	}
	factory.Start(ctx.Done())
}

// SaveConfigValues refuses: settings belong to the user.
func (b *Backend) SaveConfigValues(context.Context, string, utils.Values) (string, error) {
	return "", errors.New("hooks can't change a ModuleConfig: its settings belong to the user")
}

// Refresh sends the global values again if they differ from what was sent.
func (b *Backend) Refresh() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sendGlobal()
}

func (b *Backend) handle(ctx context.Context, object any, deleted bool) error {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	moduleConfig, ok := object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("watch of ModuleConfigs gave a %T", object)
	}
	name := moduleConfig.GetName()
	if deleted {
		moduleConfig = nil
	}
	// What was accepted is carried out also where it could not be reported.
	err := b.observe(ctx, name, moduleConfig)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch name {
	case globalName:
		b.sendGlobal()
	case b.Module.Definition.Name:
		// addon-operator itself compares with what it has.
		b.send(config.Event{Key: name, Config: b.moduleConfig(), Op: config.EventUpdate})
	}
	return err
}

// observe judges one ModuleConfig and tells the user what came of it.
func (b *Backend) observe(ctx context.Context, name string, object *unstructured.Unstructured) error {
	switch name {
	case globalName:
		return b.observeGlobal(object)
	case b.Module.Definition.Name:
		return b.observeModule(ctx, name, object)
	}
	return b.Reporter.ModuleConfig(ctx, name, report.ConfigStatus{
		Message: fmt.Sprintf("Ignored: this platform runs the module %s only.", b.Module.Definition.Name),
	}, "")
}

func (b *Backend) observeGlobal(object *unstructured.Unstructured) error {
	request, err := ParseRequest(object)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.globalUser = request.Settings
	return nil
}

func (b *Backend) observeModule(ctx context.Context, name string, object *unstructured.Unstructured) error {
	request, err := ParseRequest(object)
	if err != nil {
		return err
	}
	_, last := b.Verdict()
	verdict := b.Judge(request)
	if !verdict.Accepted.Equal(last.Accepted) {
		if err := b.Store.Save(ctx, name, verdict.Accepted); err != nil {
			return err
		}
		b.Logger.Info("settings accepted", slog.String("module", name), slog.Bool("enabled", verdict.Accepted.Enabled))
	}
	b.mu.Lock()
	b.request, b.verdict = request, verdict
	b.mu.Unlock()
	if verdict.Refusal != "" {
		b.Logger.Warn("ModuleConfig not carried out", slog.String("module", name), slog.String("reason", string(verdict.Refusal)))
	}
	b.Changed()
	return b.Reporter.ModuleConfig(ctx, name, report.ConfigStatus{
		Version: strconv.Itoa(b.Module.Converter.Latest()),
		Message: verdict.Message,
	}, string(verdict.Refusal))
}

// moduleConfig is what the module runs with, in addon-operator's words.
func (b *Backend) moduleConfig() *config.KubeConfig {
	name, accepted := b.Module.Definition.Name, b.verdict.Accepted
	made := utils.NewModuleConfig(name, utils.Values(accepted.Settings).Copy())
	made.IsEnabled = &accepted.Enabled
	if accepted.Maintenance != "" {
		made.Maintenance = utils.Maintenance(accepted.Maintenance)
	}
	all := config.NewConfig()
	all.Modules[name] = &config.ModuleKubeConfig{ModuleConfig: *made, Checksum: made.Checksum()}
	return all
}

func (b *Backend) globalConfig() *config.GlobalKubeConfig {
	values := utils.Values(b.Global(b.globalUser))
	return &config.GlobalKubeConfig{Values: values, Checksum: values.Checksum()}
}

func (b *Backend) sendGlobal() {
	global := b.globalConfig()
	if b.events == nil || global.Checksum == b.globalSum {
		return
	}
	b.globalSum = global.Checksum
	// addon-operator takes the values that it began with for its own writing when they come back, and ignores them once.
	b.globalSends++
	global.Checksum = fmt.Sprintf("%s-%d", global.Checksum, b.globalSends)
	all := config.NewConfig()
	all.Global = global
	b.send(config.Event{Key: globalName, Config: all, Op: config.EventUpdate})
}

func (b *Backend) send(event config.Event) {
	if b.events != nil {
		b.events <- event
	}
}
