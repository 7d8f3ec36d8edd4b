// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package runtimespec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, args, bundle, process string
		starts                      bool
	}{
		{name: "create", args: "--root /run/runc --log x create --bundle /b --pid-file p id", bundle: "/b", starts: true},
		{name: "short", args: "run -b /b id", bundle: "/b", starts: true},
		{name: "joined", args: "create --bundle=/b id", bundle: "/b", starts: true},
		{name: "here", args: "create id", bundle: ".", starts: true},
		{name: "exec", args: "exec --process /p.json --detach id", bundle: ".", process: "/p.json"},
		{name: "exec short", args: "exec -p /p.json id", bundle: ".", process: "/p.json"},
		{name: "delete", args: "--root /run/runc delete --force id", bundle: "."},
		{name: "value missing", args: "create --bundle", bundle: "", starts: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bundle, process, starts := parse(strings.Fields(tt.args))
			if bundle != tt.bundle || process != tt.process || starts != tt.starts {
				t.Errorf("got %q, %q, %t", bundle, process, starts)
			}
		})
	}
}

func TestRewriteOfAContainer(t *testing.T) {
	bundle := t.TempDir()
	file := filepath.Join(bundle, "config.json")
	in := `{"ociVersion":"1.2","process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"ambient":["CAP_SYS_RESOURCE"]},"user":{"uid":9007199254740993}}}`
	want := `{"ociVersion":"1.2","process":{"capabilities":{"ambient":[],"bounding":["CAP_KILL"]},"user":{"uid":9007199254740993}}}`
	if err := os.WriteFile(file, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rewrite([]string{"create", "--bundle", bundle, "id"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestRewriteOfAnAddedProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "process.json")
	if err := os.WriteFile(file, []byte(`{"capabilities":{"effective":["CAP_SYS_RESOURCE","CAP_CHOWN"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rewrite([]string{"exec", "--process", file, "id"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != `{"capabilities":{"effective":["CAP_CHOWN"]}}` {
		t.Errorf("got %s", got)
	}
}

func TestRewriteLeavesOthersAlone(t *testing.T) {
	bundle := t.TempDir()
	file := filepath.Join(bundle, "config.json")
	const in = "{ \"process\": {\"capabilities\": {\"bounding\": [\"CAP_KILL\"]}} }\n"
	if err := os.WriteFile(file, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"create", "-b", bundle, "id"}, {"delete", "id"}, {"create", "-b", "/no/such/bundle", "id"}} {
		if err := Rewrite(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if got, _ := os.ReadFile(file); string(got) != in {
		t.Errorf("got %s", got)
	}
}

func TestRewriteOfNonsense(t *testing.T) {
	for _, content := range []string{`CAP_SYS_RESOURCE`, `["CAP_SYS_RESOURCE"]`} {
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Rewrite([]string{"create", "-b", bundle}); err == nil || !strings.Contains(err.Error(), "config.json") {
			t.Errorf("error %v", err)
		}
	}
}
