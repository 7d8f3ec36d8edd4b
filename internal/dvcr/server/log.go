// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/sirupsen/logrus"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/deckhouse/virtualization/internal/logging"
)

// loggedFields are the fields of distribution's records worth keeping. The
// query of a request's URI carries an upload's signed state, so it is not.
var loggedFields = []string{"vars.name", "vars.reference", "vars.digest", "http.request.method", "http.response.status", "auth.user.name", "err.code", "err.detail"}

// BridgeLogs sends the records of the libraries to our logger: distribution
// logs through logrus, the watch of the certificate through controller-runtime.
func BridgeLogs(logger *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.AddHook(&logBridge{handler: logger.Handler()})
	ctrllog.SetLogger(logging.Logr(logger))
}

type logBridge struct {
	handler slog.Handler
}

// Levels implements logrus.Hook.
func (b *logBridge) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (b *logBridge) Fire(entry *logrus.Entry) error {
	level := bridgedLevel(entry)
	if !b.handler.Enabled(context.Background(), level) {
		return nil
	}
	record := slog.NewRecord(entry.Time, level, entry.Message, 0)
	for _, name := range loggedFields {
		if value, ok := entry.Data[name]; ok {
			record.AddAttrs(slog.Any(name, value))
		}
	}
	return b.handler.Handle(context.Background(), record)
}

// bridgedLevel lets through what an administrator can act on: failures of the
// registry itself. That a client asked for something which is not there, or
// without credentials at first, is how the protocol works.
func bridgedLevel(entry *logrus.Entry) slog.Level {
	status, answered := entry.Data["http.response.status"].(int)
	switch {
	case entry.Level <= logrus.FatalLevel:
		return slog.LevelError
	case entry.Level == logrus.ErrorLevel && answered && status < http.StatusInternalServerError:
		return slog.LevelDebug
	case entry.Level == logrus.ErrorLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
