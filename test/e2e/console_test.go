// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// console is a running "d8v console".
type console struct {
	t     *testing.T
	input io.Writer

	mu     sync.Mutex
	output bytes.Buffer
}

// Write collects what the guest prints.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.Write(p)
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.output.String()
}

// openConsole connects by the client; it is ended with the test.
func openConsole(ctx context.Context, t *testing.T, namespace, name string) *console {
	t.Helper()
	c := &console{t: t}
	command := exec.CommandContext(ctx, d8v, "console", "--namespace", namespace, name)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.input, command.Stdout, command.Stderr = input, c, c
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = input.Write([]byte{0x1d}) // Ctrl+] leaves
		_ = input.Close()
		_ = command.Wait()
	})
	return c
}

// expect waits for a text; it presses Enter now and then, since a guest that has
// booted already prints nothing by itself.
func (c *console) expect(ctx context.Context, text string) {
	c.t.Helper()
	enter := time.NewTicker(3 * time.Second)
	defer enter.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !strings.Contains(c.text(), text) {
		select {
		case <-ctx.Done():
			c.t.Fatalf("the console never showed %q; it showed:\n%s", text, c.text())
		case <-enter.C:
			c.send("")
		case <-look.C:
		}
	}
}

// leave ends the console, so that another one can be opened.
func (c *console) leave() { _, _ = c.input.Write([]byte{0x1d}) }

func (c *console) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.input, line+"\n"); err != nil {
		c.t.Fatalf("the console has ended (%v); it showed:\n%s", err, c.text())
	}
}
