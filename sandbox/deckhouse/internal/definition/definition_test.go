// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package definition

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const example = `
name: virtualization
namespace: d8-virtualization
stage: Preview
requirements:
  deckhouse: ">= 1.74.2"
  kubernetes: ">= 1.30"
  modules:
    cni-cilium: ">= 0.0.0"
disable:
  confirmation: true
  message: "Old text."
  messages:
    en: "Machines stop."
`

func TestLoadReadsWhatThePlatformActsOn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "module.yaml"), []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Definition{
		Name: "virtualization", Namespace: "d8-virtualization", Stage: "Preview",
		Requirements: Requirements{
			Deckhouse: ">= 1.74.2", Kubernetes: ">= 1.30",
			Modules: map[string]string{"cni-cilium": ">= 0.0.0"},
		},
		Disable: Disable{Confirmation: true, Message: "Old text.", Messages: map[string]string{"en": "Machines stop."}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Disable.Warning() != "Machines stop." {
		t.Errorf("warning %q", got.Disable.Warning())
	}
}

func TestWarningFallsBackToTheSingleMessage(t *testing.T) {
	if got := (Disable{Message: "Old text."}).Warning(); got != "Old text." {
		t.Errorf("got %q", got)
	}
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "module.yaml") {
		t.Errorf("missing file: got %v", err)
	}
	for text, want := range map[string]string{
		"stage: Preview": "module.yaml has no name",
		"name: [":        "parse module.yaml",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
}
