// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package programtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const template = `
          args:
            - --address=:5000
            - --ranges={{ join "," .Values.ranges }}
            {{- if .Values.elect }}
            - --leader-elect
            {{- end }}
            {{- include "log_args" . | nindent 12 }}
            - --address=:5000
          command: ["sh", "-c", "true --not-ours"]
`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deployment.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChartFlags(t *testing.T) {
	if got := ChartFlags(t, write(t, template)); !slices.Equal(got, []string{"address", "leader-elect", "ranges"}) {
		t.Errorf("flags %q", got)
	}
}

// complaints collects what a check finds.
type complaints struct {
	testing.TB
	found []string
}

func (c *complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

func TestCheckChart(t *testing.T) {
	command := &cobra.Command{Use: "server"}
	for _, name := range []string{"address", "ranges", "log-level", "log-format"} {
		command.Flags().String(name, "", "")
	}
	found := &complaints{TB: t}
	CheckChart(found, command, write(t, template))
	if len(found.found) != 1 || !strings.HasSuffix(found.found[0], "sets --leader-elect, which server does not have") {
		t.Errorf("found %q", found.found)
	}
	found = &complaints{TB: t}
	CheckChart(found, command, write(t, "kind: Service\n"))
	if len(found.found) != 1 || !strings.Contains(found.found[0], "is it the workload's template?") {
		t.Errorf("found %q", found.found)
	}
}
