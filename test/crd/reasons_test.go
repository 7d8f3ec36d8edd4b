// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A condition or a reason that nothing produces would only keep people waiting for it.
func TestConditionsAndReasonsAreProduced(t *testing.T) {
	constant := regexp.MustCompile(`(?m)^\s+((?:Reason|Condition)\w+) Condition(?:Reason|Type)\s*= "\w+"`)
	unused := map[string]bool{}
	for _, source := range []string{"reasons.go", "conditions.go"} {
		for _, match := range constant.FindAllStringSubmatch(read(t, filepath.Join("../../api/v1alpha2", source)), -1) {
			unused["v1alpha2."+match[1]] = true
		}
	}
	if len(unused) < 100 {
		t.Fatalf("only %d conditions and reasons were found", len(unused))
	}
	word := regexp.MustCompile(`v1alpha2\.\w+`)
	err := filepath.WalkDir("../../internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, name := range word.FindAllString(read(t, path), -1) {
			delete(unused, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range unused {
		t.Errorf("nothing produces %s", name)
	}
}
