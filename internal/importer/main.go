// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/upload"
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

// upload imports what a client sends. The client gets its answer when the image
// is published, or the reason why it is not.
func (j *job) upload(ctx context.Context) (*report.Result, error) {
	server, listener, err := j.config.uploadServer(j)
	if err != nil {
		return nil, failureOf(ctx, err, UploadFields)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	j.source = server
	result, err := j.move(ctx)
	server.Finish(result, err)
	stop()
	if served := <-ended; served != nil && err == nil {
		j.logger.Warn("the upload server ended early", "error", served)
	}
	return result, err
}

func (c *Config) uploadServer(j *job) (*upload.Server, net.Listener, error) {
	token, err := readOptional("--upload-token-file", c.UploadTokenFile)
	if err != nil {
		return nil, nil, err
	}
	expires, err := time.Parse(time.RFC3339, c.UploadExpires)
	if err != nil {
		return nil, nil, fmt.Errorf("--upload-expires: %w", err)
	}
	server, err := upload.New(upload.Options{
		Token: string(bytes.TrimSpace(token)), Expires: expires, Clock: clock.RealClock{}, Logger: j.logger,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--upload-token-file: %w", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("--listen: %w", err)
	}
	return server, listener, nil
}
