// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestLogger(t *testing.T) {
	cases := []struct {
		name     string
		options  Options
		want     string
		wantErr  string
		unwanted string
	}{
		{name: "defaults", want: `level=INFO msg=starting port=8080`, unwanted: "details"},
		{name: "debug", options: Options{Level: "debug"}, want: "level=DEBUG msg=details"},
		{name: "json", options: Options{Format: "json"}, want: `"msg":"starting","port":8080`},
		{name: "only errors", options: Options{Level: "error"}, unwanted: "starting"},
		{name: "case does not matter", options: Options{Level: "Info", Format: "JSON"}, want: `"level":"INFO"`},
		{name: "wrong level", options: Options{Level: "loud"}, wantErr: "--log-level=loud: use debug, info, warn or error"},
		{name: "wrong format", options: Options{Format: "xml"}, wantErr: "--log-format=xml: use text or json"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			logger, err := tc.options.Logger(&out)
			if tc.wantErr != "" {
				if err == nil || err.Error() != tc.wantErr {
					t.Fatalf("error: got %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			logger.Debug("details")
			logger.Info("starting", "port", 8080)
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("got %q, want it to contain %q", out.String(), tc.want)
			}
			if tc.unwanted != "" && strings.Contains(out.String(), tc.unwanted) {
				t.Errorf("got %q, which should not contain %q", out.String(), tc.unwanted)
			}
		})
	}
}

func TestFlagsAndLogr(t *testing.T) {
	var options Options
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	options.AddFlags(flags)
	if err := flags.Parse([]string{"--log-level=debug", "--log-format=json"}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	logger, err := options.Logger(&out)
	if err != nil {
		t.Fatal(err)
	}
	Logr(logger).V(4).Info("through logr", "node", "node-1")
	if !strings.Contains(out.String(), `"msg":"through logr"`) || !strings.Contains(out.String(), `"node":"node-1"`) {
		t.Errorf("got %q", out.String())
	}
}
