// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestLogBridge(t *testing.T) {
	for _, tc := range []struct {
		title  string
		level  logrus.Level
		fields logrus.Fields
		want   string
	}{
		{"request", logrus.InfoLevel, logrus.Fields{"http.response.status": 200}, "DEBUG"},
		{"first request without credentials", logrus.WarnLevel, nil, "DEBUG"},
		{"missing image", logrus.ErrorLevel, logrus.Fields{"http.response.status": 404}, "DEBUG"},
		{"full storage", logrus.ErrorLevel, logrus.Fields{"http.response.status": 507}, "WARN"},
		{"error outside of an answer", logrus.ErrorLevel, nil, "WARN"},
		{"end of the process", logrus.FatalLevel, nil, "ERROR"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			var out bytes.Buffer
			logger := logrus.New()
			logger.SetOutput(io.Discard)
			logger.AddHook(&logBridge{handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})})
			entry := logrus.NewEntry(logger).WithFields(tc.fields).WithFields(logrus.Fields{
				"vars.name":        "vi/team/debian",
				"http.request.uri": "/v2/vi/team/debian/blobs/uploads/1?_state=hunter2",
			})
			entry.Logger.ExitFunc = func(int) {}
			entry.Log(tc.level, "what happened")
			line := out.String()
			for _, part := range []string{"level=" + tc.want, "what happened", "vi/team/debian"} {
				if !strings.Contains(line, part) {
					t.Errorf("%q does not hold %q", line, part)
				}
			}
			if strings.Contains(line, "hunter2") {
				t.Errorf("%q shows the state of an upload", line)
			}
		})
	}
}

func TestLogBridgeKeepsTheLevel(t *testing.T) {
	var out bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(&logBridge{handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})})
	logger.Info("noise")
	if out.Len() != 0 {
		t.Errorf("written: %s", &out)
	}
}
