// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

func TestPermanentFailuresAreNotTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		title string
		err   error
		again bool
	}{
		{"done", nil, false},
		{"permanent", &report.Failure{Reason: "SourceNotFound", Permanent: true}, false},
		{"passing", &report.Failure{Reason: "SourceUnreachable"}, true},
		{"wrapped permanent", fmt.Errorf("run: %w", &report.Failure{Permanent: true}), false},
		{"anything else", errors.New("unknown flag"), true},
	} {
		if got := worthAnother(tc.err); (got != nil) != tc.again {
			t.Errorf("%s: %v", tc.title, got)
		}
	}
}

// The command line is the contract with the controller that makes the pod.
func TestImportCommand(t *testing.T) {
	log := filepath.Join(t.TempDir(), "termination-log")
	command := newCommand()
	command.SetArgs([]string{
		"import", "--source-url=ftp://mirror.example/disk.img", "--source-ca-file=/etc/importer/source-ca.crt",
		"--checksum=md5:d41d8cd98f00b204e9800998ecf8427e",
		"--checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"--destination=dvcr.example/vi/team/debian:1", "--registry-ca-file=/etc/importer/ca.crt",
		"--token-file=/etc/importer/token", "--report-url=https://controller.example/reports",
		"--termination-log=" + log, "--log-level=error", "--log-format=json",
	})
	if err := command.ExecuteContext(context.Background()); err == nil {
		t.Fatal("no error although the files are missing")
	}
	message, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if verdict, err := report.ParseTermination(string(message)); err != nil || verdict.Failure == nil {
		t.Errorf("verdict %s, %v", message, err)
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, args := range [][]string{{"export"}, {"import", "file"}, {"upload", "--source-url=http://mirror.example"}, {"inspect", "--destination=x"}, {"import", "--log-level=loud"}, {"import", "--nonsense"}} {
		command := newCommand()
		command.SetArgs(args)
		if err := command.ExecuteContext(context.Background()); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
