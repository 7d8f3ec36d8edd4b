// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
)

// loggedFields are the fields of distribution's records worth keeping. The
// query of a request's URI carries an upload's signed state, so it is not.
var loggedFields = []string{"vars.name", "vars.reference", "vars.digest", "http.request.method", "http.response.status", "auth.user.name", "err.code", "err.detail"}

// BridgeLogs sends the records of distribution, which logs through logrus, to
// our logger. What it calls an error is often a client asking for something
// that is not there, so every level counts one less than it says.
func BridgeLogs(logger *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.InfoLevel)
	logrus.AddHook(&logBridge{handler: logger.Handler()})
}

type logBridge struct {
	handler slog.Handler
}

// Levels implements logrus.Hook.
func (b *logBridge) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (b *logBridge) Fire(entry *logrus.Entry) error {
	level := bridgedLevel(entry.Level)
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

func bridgedLevel(level logrus.Level) slog.Level {
	switch level {
	case logrus.PanicLevel, logrus.FatalLevel:
		return slog.LevelError
	case logrus.ErrorLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
