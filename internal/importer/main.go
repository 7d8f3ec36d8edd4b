// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Main carries out what the command line says and writes the verdict. It returns
// a *report.Failure when there is no image.
func Main(ctx context.Context, config Config, logger *slog.Logger) error {
	result, err := config.run(ctx, logger)
	verdict := report.Termination{Result: result}
	var failure *report.Failure
	switch {
	case errors.As(err, &failure):
		verdict.Failure = failure
		logger.Error("import failed", "reason", failure.Reason, "message", failure.Message, "permanent", failure.Permanent)
	case err != nil:
		failure = &report.Failure{Reason: report.Internal, Message: err.Error()}
		verdict.Failure, err = failure, failure
		logger.Error("import failed", "error", err)
	default:
		logger.Info("done", "digest", result.Digest, "format", result.Format, "bytes", result.StoredSizeBytes, "seconds", result.DurationSeconds)
	}
	content, marshalErr := verdict.Marshal()
	if marshalErr != nil {
		return fmt.Errorf("encode the verdict: %w", marshalErr)
	}
	if writeErr := os.WriteFile(config.TerminationLog, content, 0o644); writeErr != nil {
		return fmt.Errorf("write the verdict: %w", writeErr)
	}
	return err
}

// run joins the source and the sink that the command line names.
func (c *Config) run(ctx context.Context, logger *slog.Logger) (*report.Result, error) {
	job, err := c.job(logger)
	if err != nil {
		return nil, failureOf(ctx, err, c.fields())
	}
	switch c.Verb {
	case VerbInspect:
		return job.inspect(ctx)
	case VerbUpload:
		return job.upload(ctx)
	}
	return job.move(ctx)
}

// move brings the image from its source to its sink.
func (j *job) move(ctx context.Context) (*report.Result, error) {
	j.logger.Info("importing", "source", fmt.Sprint(j.source), "destination", j.config.Destination+j.config.TargetVolume)
	if j.config.TargetVolume != "" {
		return j.fill(ctx)
	}
	if local, ok := j.source.(*source.Local); ok {
		j.source = source.NewSparse(local)
	}
	checkpoints, resume := j.checkpoints()
	options := j.options(j.config.Destination)
	options.Resume, options.Save, options.Retried = resume, checkpoints.Save, checkpoints.Attempt
	options.Retries, options.RetryDelay = j.config.Retries, retryDelay
	options.Reporter = j.reporter
	return Run(ctx, options)
}
