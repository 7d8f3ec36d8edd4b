// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Config is the command line of the importer.
type Config struct {
	SourceURL      string
	SourceCAFile   string
	Checksums      []string
	RefuseNetworks []string

	Destination    string
	RegistryCAFile string
	TokenFile      string

	ReportURL      string
	TerminationLog string
}

// defaultRefused are networks that hold no images but the node's own services:
// loopback and link-local, where clouds serve their metadata.
var defaultRefused = []string{"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"}

// AddFlags registers the command line.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.SourceURL, "source-url", "", "http or https URL of the image")
	flags.StringVar(&c.SourceCAFile, "source-ca-file", "", "PEM file of further certificate authorities to trust the source by")
	flags.StringArrayVar(&c.Checksums, "checksum", nil, "checksum of the downloaded file, <md5|sha1|sha256|sha512>:<hex>; may be repeated")
	flags.StringSliceVar(&c.RefuseNetworks, "refuse-network", defaultRefused, "networks that images are not imported from")
	flags.StringVar(&c.Destination, "destination", "", "reference of the image in the registry; the tag is the owner's uid")
	flags.StringVar(&c.RegistryCAFile, "registry-ca-file", "/etc/importer/ca.crt", "PEM file of the module's certificate authority")
	flags.StringVar(&c.TokenFile, "token-file", "/etc/importer/token", "file of the token for the registry")
	flags.StringVar(&c.ReportURL, "report-url", "", "URL that progress is posted to")
	flags.StringVar(&c.TerminationLog, "termination-log", "/dev/termination-log", "file that the verdict is written to")
}

// Main runs one import and writes its verdict. It returns a *report.Failure
// when there is no image.
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
		logger.Info("image published", "digest", result.Digest, "format", result.Format, "bytes", result.StoredSizeBytes, "seconds", result.DurationSeconds)
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

func (c *Config) run(ctx context.Context, logger *slog.Logger) (*report.Result, error) {
	options, err := c.options(logger)
	if err != nil {
		return nil, failureOf(ctx, err, HTTPFields)
	}
	logger.Info("importing", "source", fmt.Sprint(options.Source), "destination", c.Destination)
	return Run(ctx, *options)
}

// options reads the files that the command line names.
func (c *Config) options(logger *slog.Logger) (*Options, error) {
	checksums, err := c.checksums()
	if err != nil {
		return nil, err
	}
	from, err := c.source(len(checksums) > 0)
	if err != nil {
		return nil, err
	}
	if _, err := c.token(); err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.RegistryCAFile)
	if err != nil {
		return nil, fmt.Errorf("read --registry-ca-file: %w", err)
	}
	transport, err := dvcr.NewTransport(ca)
	if err != nil {
		return nil, fmt.Errorf("--registry-ca-file %s: %w", c.RegistryCAFile, err)
	}
	return &Options{
		Source:      from,
		Checksums:   checksums,
		Destination: c.Destination,
		Token:       c.token,
		Transport:   transport,
		Clock:       clock.RealClock{},
		Logger:      logger,
		Reporter: &Reporter{
			URL:    c.ReportURL,
			Token:  c.token,
			Client: &http.Client{Transport: transport},
			Clock:  clock.RealClock{},
			Logger: logger,
		},
	}, nil
}

// token reads the file anew: kubelet exchanges it when the token is renewed.
func (c *Config) token() (string, error) {
	signed, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read --token-file: %w", err)
	}
	return string(bytes.TrimSpace(signed)), nil
}

func (c *Config) checksums() ([]image.Checksum, error) {
	checksums := make([]image.Checksum, 0, len(c.Checksums))
	for _, text := range c.Checksums {
		checksum, err := image.ParseChecksum(text)
		if err != nil {
			return nil, &report.Failure{Reason: report.ChecksumMismatch, Message: err.Error(), Field: HTTPFields.of("checksum"), Permanent: true}
		}
		checksums = append(checksums, checksum)
	}
	return checksums, nil
}

func (c *Config) source(verified bool) (source.Source, error) {
	options := source.HTTPOptions{URL: c.SourceURL, Verified: verified}
	for _, text := range c.RefuseNetworks {
		if text == "" {
			continue // --refuse-network= lifts the default.
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--refuse-network: %w", err)
		}
		options.RefusedNetworks = append(options.RefusedNetworks, network)
	}
	if c.SourceCAFile != "" {
		ca, err := os.ReadFile(c.SourceCAFile)
		if err != nil {
			return nil, fmt.Errorf("read --source-ca-file: %w", err)
		}
		options.CA = ca
	}
	return source.NewHTTP(options)
}
