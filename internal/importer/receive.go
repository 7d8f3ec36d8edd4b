// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/upload"
)

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
