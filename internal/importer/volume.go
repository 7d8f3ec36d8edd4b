// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"sync"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/importer/fill"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// fill brings the image onto the volume. After failures that may pass it goes on
// by itself, as an import into the registry does.
func (j *job) fill(ctx context.Context) (*report.Result, error) {
	checkpoints, resume := j.checkpoints()
	filling := &fill.Progress{}
	stop := j.reporter.Follow(ctx, &fillStatus{Status: j.status, filling: filling})
	defer stop()
	r := &run{Options: Options{Fields: j.config.fields(), Retries: j.config.Retries, RetryDelay: retryDelay, Retried: checkpoints.Attempt,
		Save: checkpoints.Save, Status: j.status, Clock: clock.RealClock{}, Logger: j.logger}, resume: resume}
	for {
		before := offsetOf(r.resume)
		result, err := fill.Fill(ctx, fill.Options{
			Source: j.source, Checksums: j.checksums, Target: j.config.TargetVolume, Size: j.config.TargetSize,
			Stage: j.stage(r), Resume: r.resume, Save: r.save, Progress: filling, Clock: r.Clock, Logger: j.logger,
		})
		if err == nil {
			return result, nil
		}
		if offsetOf(r.resume) > before {
			r.failures = 0
		}
		var changed *source.ChangedError
		if errors.As(err, &changed) {
			// It was begun anew often enough already.
			return nil, failureOf(ctx, err, r.Fields)
		}
		if again, failure := r.decide(ctx, err); !again {
			return nil, failureOf(ctx, failure, r.Fields)
		}
	}
}

// stage brings an image that cannot be read at random into the registry, from
// where it can.
func (j *job) stage(r *run) fill.Stage {
	if j.config.Stage == "" {
		return nil
	}
	return func(ctx context.Context, from source.Source, resume *report.Checkpoint) (*fill.Staged, error) {
		options := j.options(j.config.Stage)
		options.Source, options.Resume, options.Save = from, resume, r.save
		result, err := Run(ctx, options)
		if err != nil {
			return nil, err
		}
		staged, err := source.NewDVCR(source.DVCROptions{Reference: j.config.Stage, Token: j.config.token, Transport: j.transport})
		if err != nil {
			return nil, err
		}
		return &fill.Staged{Source: staged, Received: result.TransferredBytes, Remove: func(ctx context.Context) error {
			pusher, err := dvcr.NewPusher(ctx, j.config.Stage, j.config.token, j.transport)
			if err != nil {
				return err
			}
			return pusher.Remove(ctx, result.Digest)
		}}, nil
	}
}

// fillStatus tells of a filling what it knows of itself, and all else of the job.
type fillStatus struct {
	*progress.Status
	filling *fill.Progress

	mu          sync.Mutex
	last, moved int64
}

// Sample implements progress.Sampled.
func (s *fillStatus) Sample() (report.Progress, int64) {
	told, staged := s.Status.Sample()
	s.mu.Lock()
	defer s.mu.Unlock()
	total := s.filling.Total()
	if total == 0 && s.filling.Transferred() == 0 {
		return told, staged // Nothing of the volume yet: the image is being staged.
	}
	now := s.filling.Transferred()
	// Where a filling goes on it does not begin at zero, which is no speed.
	if s.last > 0 && now > s.last {
		s.moved += now - s.last
	}
	s.last = now
	told.TransferredBytes, told.TotalBytes = now, total
	if told.RetryAt == nil {
		told.Phase = s.filling.Phase()
	}
	return told, staged + s.moved
}
