// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
)

// scanInterval is how often a registry is asked what its channels hold. Deckhouse asks every three minutes.
const scanInterval = 10 * time.Second

// Keeper keeps the version of one module.
type Keeper struct {
	Client dynamic.Interface
	Clock  clock.WithTicker
	Logger *slog.Logger
	// Module is the module's name, Platform what there is for it to require.
	Module   string
	Platform definition.Platform
	// Folder holds unpacked versions, and Link leads to the one that runs. There is
	// no Link while the module is not taken from a registry.
	Folder, Link string
}

// Run keeps the version until the context ends.
func (k *Keeper) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	k.watch(ctx, func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	ticker := k.Clock.NewTicker(scanInterval)
	defer ticker.Stop()
	if err := k.prune(); err != nil {
		k.Logger.Warn("versions that do not run are kept", slog.Any("error", err))
	}
	for {
		if err := k.Sync(ctx); err != nil && ctx.Err() == nil {
			k.Logger.Warn("releases of the module not handled", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		case <-changed:
		}
	}
}

func (k *Keeper) watch(ctx context.Context, changed func(any)) {
	factory := dynamicinformer.NewDynamicSharedInformerFactory(k.Client, 0)
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, object any) { changed(object) }, DeleteFunc: changed,
	}
	for _, resource := range watched {
		if _, err := factory.ForResource(resource).Informer().AddEventHandler(handler); err != nil {
			k.Logger.Error("not watched", slog.String("resource", resource.Resource), slog.Any("error", err))
		}
	}
	factory.Start(ctx.Done())
}

// watched are the resources that decide about the version.
var watched = []schema.GroupVersionResource{Sources, Releases, Policies, Overrides, report.ModuleConfigs}

// Sync looks at everything once and does what is due.
func (k *Keeper) Sync(ctx context.Context) error {
	source, err := k.source(ctx)
	if err != nil {
		return err
	}
	if source == nil {
		return k.point("")
	}
	policy, err := k.policy(ctx)
	if err != nil {
		return err
	}
	offer, pullError := source.Registry.Offer(ctx, channelTags[policy.Channel])
	if err := k.tellSource(ctx, source, policy, offer, pullError); err != nil {
		return err
	}
	deployed, err := k.handleReleases(ctx, source, policy, offer)
	if err != nil {
		return err
	}
	if tag, err := k.override(ctx); err != nil || tag != "" {
		return errors.Join(err, k.deploy(ctx, source.Registry, tag))
	}
	if deployed == nil {
		return k.point("")
	}
	return k.deploy(ctx, source.Registry, "v"+deployed.String())
}

// handleReleases makes, judges and reports releases, and returns the version that is to run.
func (k *Keeper) handleReleases(ctx context.Context, source *source, policy Policy, offer Offer) (*semver.Version, error) {
	known, err := k.releases(ctx)
	if err != nil {
		return nil, err
	}
	plan := Decide(known, offer.Version, policy, k.Clock.Now())
	if plan.Create {
		if err := k.create(ctx, source, policy, offer); err != nil {
			return nil, err
		}
		// Its own event brings the next look.
	}
	if plan.Deploy != nil {
		// What can't be had is not deployed.
		if _, err := source.Registry.Unpack(ctx, "v"+plan.Deploy.String(), k.Folder); err != nil {
			return nil, err
		}
		k.Logger.Info("deploying a version of the module", slog.String("version", plan.Deploy.String()))
	}
	for _, verdict := range plan.Verdicts {
		if err := k.tellRelease(ctx, verdict); err != nil {
			return nil, err
		}
	}
	if plan.Deploy != nil {
		return plan.Deploy, nil
	}
	return plan.Deployed, nil
}

// deploy lets a version run. What runs already goes on when the registry can't be asked.
func (k *Keeper) deploy(ctx context.Context, registry Registry, tag string) error {
	folder, err := registry.Unpack(ctx, tag, k.Folder)
	if err != nil {
		return fmt.Errorf("get %s: %w", tag, err)
	}
	return k.point(folder)
}

// point lets the link lead to a folder, or takes it away.
func (k *Keeper) point(folder string) error {
	now, err := os.Readlink(k.Link)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if now == folder {
		return nil
	}
	k.Logger.Info("the module is another one now", slog.String("folder", folder))
	if folder == "" {
		return os.Remove(k.Link)
	}
	temporary := k.Link + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(folder, temporary); err != nil {
		return fmt.Errorf("lead to the version that runs: %w", err)
	}
	return os.Rename(temporary, k.Link)
}

// prune removes all versions but the one that runs. A process that leads to another version is replaced, so when one begins
// nobody reads the others.
func (k *Keeper) prune() error {
	running, err := os.Readlink(k.Link)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(k.Folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var problems []error
	for _, entry := range entries {
		if folder := filepath.Join(k.Folder, entry.Name()); folder != filepath.Dir(running) {
			problems = append(problems, os.RemoveAll(folder))
		}
	}
	return errors.Join(problems...)
}
