// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// behaviour names what this test's own program does when it is run as a command.
const behaviour = "PROGRAM_TEST_BEHAVIOUR"

// TestMain lets the tests start a process that is nothing but Main.
func TestMain(m *testing.M) {
	what := os.Getenv(behaviour)
	if what == "" {
		os.Exit(m.Run())
	}
	Main(&cobra.Command{Use: "server", RunE: func(command *cobra.Command, _ []string) error {
		if what == "fail" {
			return errors.New("no disk")
		}
		fmt.Println("serving")
		<-command.Context().Done()
		fmt.Println("told to end")
		if what == "ignore" {
			select {}
		}
		return nil
	}})
}

// start runs this test's program as a command and returns its output, line by line.
func start(t *testing.T, what string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), behaviour+"="+what)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, bufio.NewScanner(output)
}

func expectLine(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), want)
	}
}

func TestSignalsEndTheContext(t *testing.T) {
	for _, told := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(told.String(), func(t *testing.T) {
			command, lines := start(t, "obey")
			expectLine(t, lines, "serving")
			if err := command.Process.Signal(told); err != nil {
				t.Fatal(err)
			}
			expectLine(t, lines, "told to end")
			if err := command.Wait(); err != nil {
				t.Errorf("a server that was told to end: %v, want status 0", err)
			}
		})
	}
}

// What hangs while it ends must not need SIGKILL: people press Ctrl+C twice.
func TestSecondSignalKills(t *testing.T) {
	command, lines := start(t, "ignore")
	expectLine(t, lines, "serving")
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	expectLine(t, lines, "told to end")
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for {
		// The first signal's handler is taken away a moment after the context ended.
		_ = command.Process.Signal(syscall.SIGINT)
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
				t.Errorf("ended with %v, want it killed by the signal", err)
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestFailureIsSaidOnce(t *testing.T) {
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), behaviour+"=fail")
	var output, errs bytes.Buffer
	command.Stdout, command.Stderr = &output, &errs
	err := command.Run()
	if command.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v, want status 1", err)
	}
	if errs.String() != "server: no disk\n" || output.Len() != 0 {
		t.Errorf("stderr %q, stdout %q", errs.String(), output.String())
	}
}

func TestRun(t *testing.T) {
	command := func() *cobra.Command {
		return Logged("router", "Route", func(_ context.Context, logger *slog.Logger) error {
			logger.Debug("looking")
			logger.Info("routing", "node", "node-1")
			return nil
		})
	}
	for _, tc := range []struct {
		title  string
		args   []string
		status int
		stderr string
		logged []string
	}{
		{title: "defaults", logged: []string{"level=INFO", "msg=routing node=node-1"}},
		{title: "flags", args: []string{"--log-level=debug", "--log-format=json"}, logged: []string{`"msg":"looking"`, `"node":"node-1"`}},
		{title: "wrong level", args: []string{"--log-level=loud"}, status: 1, stderr: "router: --log-level=loud: use debug, info, warn or error\n"},
		{title: "wrong flag", args: []string{"--routes=1"}, status: 1, stderr: "router: unknown flag: --routes\n"},
		{title: "an argument", args: []string{"all"}, status: 1, stderr: "router: unknown command \"all\" for \"router\"\n"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			var errs, logs bytes.Buffer
			tested := command()
			tested.SetArgs(tc.args)
			tested.SetErr(&logs)
			if status := run(t.Context(), tested, &errs); status != tc.status || errs.String() != tc.stderr {
				t.Errorf("status %d, %q; want %d, %q", status, errs.String(), tc.status, tc.stderr)
			}
			for _, want := range tc.logged {
				if !strings.Contains(logs.String(), want) {
					t.Errorf("logged %q, want %q in it", logs.String(), want)
				}
			}
			if len(tc.logged) == 0 && logs.Len() != 0 {
				t.Errorf("logged %q", logs.String())
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	addresses := Addresses{Health: ":8083", Metrics: "127.0.0.1:8080"}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addresses.AddFlags(flags)
	if got := flags.Lookup("health-address").DefValue; got != ":8083" {
		t.Errorf("the default of --health-address is %q", got)
	}
	if err := flags.Parse([]string{"--metrics-address=:9090"}); err != nil {
		t.Fatal(err)
	}
	if addresses != (Addresses{Health: ":8083", Metrics: ":9090"}) {
		t.Errorf("got %+v", addresses)
	}
}
