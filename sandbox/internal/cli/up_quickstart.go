// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"os/exec"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

const (
	quickStartNamespace = "quickstart"
	quickStartMachine   = "hello"
	quickStartTimeout   = 10 * time.Minute
	consoleTimeout      = 6 * time.Minute
	// consolePrompt is what a guest shows that has booted to its end.
	consolePrompt = "login:"
)

// runQuickStart applies the same file that the documentation shows, and talks to
// the guest on its console until it asks for a login.
func runQuickStart(ctx context.Context, s *session) error {
	manifest, err := os.ReadFile(filepath.Join(s.repo, "docs", "quickstart", "quickstart.yaml"))
	if err != nil {
		return err
	}
	if err := s.apply(ctx, manifest); err != nil {
		return err
	}
	client, err := kube.New(s.state.Kubeconfig())
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, quickStartTimeout)
	defer cancel()
	told := func(err error) { s.report.Note("waiting: %v", err) }
	for _, object := range []struct{ resource, name string }{
		{"virtualimages", "debian-13"}, {"virtualdisks", "hello-root"}, {"virtualmachines", quickStartMachine},
	} {
		resource := schema.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: object.resource}
		target := kube.Object{Resource: resource, Namespace: quickStartNamespace, Name: object.name}
		if err := client.WaitForObject(limited, target, told, kube.ConditionTrue("Ready")); err != nil {
			return err
		}
		s.report.Say("%s %s is ready", object.resource, object.name)
	}
	return s.greetGuest(ctx)
}

// greetGuest connects to the console by the client that users have.
func (s *session) greetGuest(ctx context.Context) error {
	directory, err := s.keepPrograms(ctx, []image.Program{{Module: ".", Package: "./cmd/d8v"}})
	if err != nil {
		return err
	}
	s.client8v = filepath.Join(directory, "d8v")
	ctx, cancel := context.WithTimeout(ctx, consoleTimeout)
	defer cancel()
	s.report.Note("waiting for the guest to ask for a login on its serial console")
	if err := waitForConsole(ctx, s.client8v, s.state.Kubeconfig()); err != nil {
		return err
	}
	s.report.Say("the guest answers on its serial console")
	return nil
}

// consoleRetry is how soon a client that has ended is started again.
const consoleRetry = 2 * time.Second

// waitForConsole presses Enter until the prompt appears. A client that ends before
// that is started again: the guest's pod, or what leads to it, may have been late.
func waitForConsole(ctx context.Context, client, kubeconfig string) error {
	output := &lockedBuffer{}
	for {
		if err := watchConsole(ctx, client, kubeconfig, output); err != nil {
			return err
		}
		if output.contains(consolePrompt) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest never showed %q on its console; the last it showed: %s", consolePrompt, output.tail())
		case <-time.After(consoleRetry):
		}
	}
}

// watchConsole runs the client until it ends, the prompt appears or the time is up.
func watchConsole(ctx context.Context, client, kubeconfig string, output *lockedBuffer) error {
	command := exec.CommandContext(ctx, client, "console", "--namespace", quickStartNamespace, quickStartMachine)
	command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	defer func() {
		_ = input.Close()
		_ = command.Process.Kill()
		<-ended
	}()
	for !output.contains(consolePrompt) {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return nil
		case <-time.After(2 * time.Second):
			// A write to a client that has ended fails; its output tells why.
			_, _ = io.WriteString(input, "\n")
		}
	}
	return nil
}

// lockedBuffer is written by the client while it is searched.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) contains(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buffer.Bytes(), []byte(text))
}

// tail is the end of the output, enough for an error.
func (b *lockedBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	data := b.buffer.Bytes()
	return string(data[max(0, len(data)-500):])
}

// sayWelcome tells how to look around and how to get in.
func sayWelcome(_ context.Context, s *session) error {
	ingress, err := state.IngressAddress()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, `
A two-node Kubernetes with the module runs, and in it a Debian guest.

  Look around   export KUBECONFIG=%[1]s
                bin/sandbox kubectl -n %[2]s get virtualization
                bin/sandbox status
  Get in        %[3]s console -n %[2]s %[4]s
                login "user", password "virtualization", Ctrl+] leaves
  Upload        curl --cacert %[5]s --connect-to ::%[6]s -T FILE URL
                with the URL in status.imageUploadURLs.external of an image or disk
  Settings      bin/sandbox kubectl edit moduleconfig virtualization
  End           make down

`, s.state.Kubeconfig(), quickStartNamespace, s.client8v, quickStartMachine,
		filepath.Join(s.state.PKI(), pki.CA+".crt"), ingress)
	return err
}
