// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/deckhouse/pkg/log"
)

// hookBinary writes a hook binary of which the check ends as said.
func hookBinary(t *testing.T, dir, config, check string) {
	t.Helper()
	path := filepath.Join(dir, "hooks", "my-hooks")
	write(t, path, "#!/bin/sh\ncase \"$2\" in\nconfig) echo '"+config+"' ;;\ncheck) "+check+" ;;\nesac\n")
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestOwnCheck(t *testing.T) {
	const has, hasNot = `{"version":"v1","hooks":[],"has_settings_check":true}`, `{"version":"v1","hooks":[]}`
	tests := []struct {
		name, config, check string
		// none tells that there is no check; otherwise problem is what it says.
		none    bool
		problem string
	}{
		{name: "no hooks", none: true},
		{name: "no check", config: hasNot, none: true},
		{name: "content", config: has, check: "true"},
		{name: "content in words", config: has, check: `echo "{\"valid\":true}" >&2; exit 1`},
		{name: "refusing", config: has, check: `echo "{\"valid\":false,\"message\":\"size $(tr -dc 0-9 < $SETTINGS_PATH)\"}" >&2; exit 1`, problem: "size 7"},
		{name: "broken", config: has, check: "echo oops >&2; exit 3", problem: "the module's own check failed: "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.config != "" {
				hookBinary(t, dir, test.config, test.check)
			}
			check, err := ownCheck(t.Context(), "my-module", dir, t.TempDir(), log.NewNop())
			if err != nil || (check == nil) != test.none {
				t.Fatalf("a check: %v, %v", check != nil, err)
			}
			if check == nil {
				return
			}
			err = check(map[string]any{"size": 7})
			if (err == nil) != (test.problem == "") || (err != nil && !strings.Contains(err.Error(), test.problem)) {
				t.Errorf("got %v, want %q", err, test.problem)
			}
		})
	}
	dir := t.TempDir()
	hookBinary(t, dir, "nonsense", "true")
	if _, err := ownCheck(t.Context(), "my-module", dir, t.TempDir(), log.NewNop()); err == nil || !strings.Contains(err.Error(), "what hooks the module has") {
		t.Errorf("got %v", err)
	}
}
