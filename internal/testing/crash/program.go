// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// absence is how long a killed program stays away: the world goes on without it.
const absence = 100 * time.Millisecond

// program is the program of one play through all of its lives.
type program struct {
	config *rest.Config
	scheme *runtime.Scheme
	mapper meta.RESTMapper
	view   view
	setup  func(mgr ctrl.Manager, outside Outside) error

	mu    sync.Mutex
	armed bool
	lives []*gate
}

// start runs the program until the test ends, with the fault in its first life.
func (p *program) start(t testing.TB, f fault) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := p.live(ctx, f); err != nil {
				t.Errorf("the program: %v", err)
				return
			}
			// It dies once.
			f.at = 0
			time.Sleep(absence)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// live runs the program once, until it is killed or the play is over.
func (p *program) live(ctx context.Context, f fault) error {
	g := newGate(f)
	p.mu.Lock()
	p.lives = append(p.lives, g)
	if p.armed {
		g.arm()
	}
	p.mu.Unlock()
	mgr, err := p.newManager(g)
	if err == nil {
		err = p.setup(mgr, g)
	}
	if err != nil {
		return err
	}
	ctx, die := context.WithCancel(ctx)
	defer die()
	go func() {
		select {
		case <-g.killing:
			die()
		case <-ctx.Done():
		}
	}()
	if err := mgr.Start(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errKilled) {
		return err
	}
	return nil
}

func (p *program) newManager(g *gate) (ctrl.Manager, error) {
	restConfig := rest.CopyConfig(p.config)
	// The view reads what comes in.
	restConfig.ContentType = runtime.ContentTypeJSON
	restConfig.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{gate: g, view: p.view, next: next} })
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                  p.scheme,
		MapperProvider:          func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return p.mapper, nil },
		Metrics:                 server.Options{BindAddress: "0"},
		GracefulShutdownTimeout: ptr.To(time.Second),
		Controller:              config.Controller{SkipNameValidation: ptr.To(true)},
		// As in the program.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}}},
		Cache:  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the manager: %w", err)
	}
	return mgr, nil
}

// writes lists what the program wrote in all of its lives, and when the last was.
func (p *program) writes() (all []string, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.lives {
		writes, at := g.noted()
		all = append(all, writes...)
		if at.After(last) {
			last = at
		}
	}
	return all, last
}

// arm lets the fault come true from now on.
func (p *program) arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
	for _, g := range p.lives {
		g.arm()
	}
}

// writesSinceArmed lists what the program wrote since then in its first life.
func (p *program) writesSinceArmed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.lives[0]
	writes, _ := first.noted()
	return writes[first.unarmed:]
}

// wasKilled tells whether a planned death has come.
func (p *program) wasKilled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lives) > 0 && p.lives[0].isClosed()
}
