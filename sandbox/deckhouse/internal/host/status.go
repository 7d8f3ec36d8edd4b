// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/flant/addon-operator/pkg/module_manager/models/modules"
	"github.com/flant/addon-operator/pkg/module_manager/models/modules/events"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/settings"
)

// statusRetry is when a status that could not be written is written again.
const statusRetry = 3 * time.Second

// statusLoop writes the status of all modules after anything happened to one.
type statusLoop struct {
	host    *Host
	changed chan struct{}
	phases  map[string]string
}

func newStatusLoop(host *Host) *statusLoop {
	return &statusLoop{host: host, changed: make(chan struct{}, 1), phases: map[string]string{}}
}

// wake asks for another round; several wishes become one.
func (l *statusLoop) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// drain empties addon-operator's channel at once, since it waits for that.
func (l *statusLoop) drain(ctx context.Context, changes <-chan events.ModuleEvent) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
			l.wake()
		}
	}
}

func (l *statusLoop) run(ctx context.Context) {
	l.wake()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
		}
		if err := l.writeAll(ctx); err != nil && ctx.Err() == nil {
			l.host.logger.Warn("status not written", slog.Any("error", err))
			time.AfterFunc(statusRetry, l.wake)
		}
	}
}

func (l *statusLoop) writeAll(ctx context.Context) error {
	manager := l.host.operator.ModuleManager
	for _, name := range manager.GetModuleNames() {
		seen := observe(manager.GetModule(name), manager.IsModuleEnabled(name))
		if name == l.host.module.Definition.Name {
			request, verdict := l.host.backend.Verdict()
			seen.Wanted, seen.Verdict = request.Enabled, verdict
		} else {
			seen.Wanted, seen.Verdict = true, settings.Verdict{Accepted: settings.Accepted{Enabled: true}}
		}
		status, err := l.host.reporter.Module(ctx, name, seen)
		if err != nil {
			return err
		}
		l.tell(name, status, seen)
	}
	return nil
}

// tell logs a phase once; "sandbox logs" shows it to people who wait.
func (l *statusLoop) tell(name string, status report.Status, seen report.Observation) {
	if l.phases[name] == status.Phase {
		return
	}
	l.phases[name] = status.Phase
	l.host.logger.Info("module phase", slog.String("module", name),
		slog.String("phase", status.Phase), slog.String("problem", seen.Problem))
}

// observe reads what addon-operator knows about a module.
func observe(module *modules.BasicModule, enabled bool) report.Observation {
	seen := report.Observation{
		Enabled:      enabled,
		RunDone:      module.GetPhase() == modules.Ready,
		OwnReadiness: module.HasReadiness(),
	}
	if err := module.GetModuleError(); err != nil {
		// Also of one that is disabled: then its removal has failed and is tried again.
		seen.Problem = err.Error()
		return seen
	}
	if !enabled {
		return seen
	}
	if err := module.GetLastHookError(); err != nil {
		seen.Problem = err.Error()
	}
	return seen
}
