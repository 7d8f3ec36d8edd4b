// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// stallGuard notices a connection that gives nothing, or so little that it
// would never end. Only time spent waiting for the source counts: a slow
// registry is not the source's fault.
type stallGuard struct {
	timeout time.Duration
	floor   int64
	cancel  func()
	fired   atomic.Bool
	timer   *time.Timer

	waited time.Duration
	got    int64
}

func newStallGuard(options HTTPOptions, cancel func()) *stallGuard {
	return &stallGuard{timeout: options.StallTimeout, floor: options.StallBytes, cancel: cancel}
}

// read reads once and fails when the connection has stalled.
func (g *stallGuard) read(r io.Reader, p []byte) (int, error) {
	g.arm()
	start := time.Now()
	n, err := r.Read(p)
	g.waited += time.Since(start)
	g.got += int64(n)
	g.timer.Stop()
	if g.fired.Load() {
		return n, g.stalled(0)
	}
	if g.waited < g.timeout {
		return n, err
	}
	got := g.got
	g.waited, g.got = 0, 0
	if err == nil && got < g.floor {
		return n, g.stalled(got)
	}
	return n, err
}

func (g *stallGuard) arm() {
	if g.timer != nil {
		g.timer.Reset(g.timeout)
		return
	}
	g.timer = time.AfterFunc(g.timeout, func() {
		g.fired.Store(true)
		g.cancel()
	})
}

func (g *stallGuard) stalled(got int64) error {
	return &Error{Reason: report.SourceUnreachable, Field: "url",
		Message: fmt.Sprintf("the source sent only %d bytes in %s", got, g.timeout)}
}
