// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package logging gives every binary of the module the same two flags and the
// same log records.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
)

// Options are the settings that an administrator has for logs (logLevel and
// logFormat of the ModuleConfig).
type Options struct {
	// Level is debug, info, warn or error.
	Level string
	// Format is text or json.
	Format string
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

var formats = []string{"text", "json"}

// AddFlags registers --log-level and --log-format.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Level, "log-level", "info", "how much is logged: debug, info, warn or error")
	flags.StringVar(&o.Format, "log-format", "text", "how log records are written: text or json")
}

// Logger makes a logger that writes to w. An empty option means its default. The
// error names the flag and the values that it takes.
func (o *Options) Logger(w io.Writer) (*slog.Logger, error) {
	level, ok := levels[strings.ToLower(orDefault(o.Level, "info"))]
	if !ok {
		return nil, fmt.Errorf("--log-level=%s: use debug, info, warn or error", o.Level)
	}
	format := strings.ToLower(orDefault(o.Format, "text"))
	if !slices.Contains(formats, format) {
		return nil, fmt.Errorf("--log-format=%s: use text or json", o.Format)
	}
	handlerOptions := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, handlerOptions)), nil
	}
	return slog.New(slog.NewTextHandler(w, handlerOptions)), nil
}

// Logr wraps a logger for libraries, controller-runtime among them, that log
// through logr.
func Logr(logger *slog.Logger) logr.Logger { return logr.FromSlogHandler(logger.Handler()) }

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
