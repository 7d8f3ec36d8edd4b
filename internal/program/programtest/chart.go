// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package programtest checks what the chart and a program have to agree on.
package programtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

var flagInTemplate = regexp.MustCompile(`(?m)^\s*- --([a-z0-9-]+)(?:=|\s|$)`)

// ChartFlags lists the flags that the template of a workload gives to the program
// of an image, sorted. The flags of the shared helpers are not among them.
func ChartFlags(t testing.TB, template string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(template))
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, match := range flagInTemplate.FindAllStringSubmatch(string(text), -1) {
		flags = append(flags, match[1])
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

// CheckChart fails the test if the template sets a flag that the program does not
// have: the pod would never start. The flags of logging come from a helper.
func CheckChart(t testing.TB, command *cobra.Command, template string) {
	t.Helper()
	flags := ChartFlags(t, template)
	if len(flags) == 0 {
		t.Errorf("%s sets no flag: is it the workload's template?", template)
	}
	for _, name := range append(flags, "log-level", "log-format") {
		if command.Flags().Lookup(name) == nil {
			t.Errorf("%s sets --%s, which %s does not have", template, name, command.Name())
		}
	}
}
