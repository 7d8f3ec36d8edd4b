// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type vncOptions struct {
	takeover
	proxyOnly bool
	address   string
	port      uint16
	viewer    string
}

func (c *cli) newVNCCommand() *cobra.Command {
	var options vncOptions
	command := &cobra.Command{
		Use:   "vnc MACHINE",
		Short: "Show the display of a machine",
		Long: `Show the display of a machine in a viewer for VNC that is installed here, or only make it
reachable at a local port for a viewer of your choice.

MACHINE is ` + targetForms + `.`,
		Example: c.examples("vnc web", "vnc web --proxy-only --port 5900", "vnc web --viewer /opt/bin/my-viewer"),
	}
	c.ofMachine(command, func(ctx context.Context, key client.ObjectKey) error {
		if err := c.vnc(ctx, key, options); err != nil {
			return fmt.Errorf("display of %s: %w", key, c.explain(err))
		}
		return nil
	})
	options.addFlags(command)
	command.Flags().BoolVar(&options.proxyOnly, "proxy-only", false, "start no viewer; print the port and serve until Ctrl+C")
	command.Flags().StringVar(&options.address, "address", "127.0.0.1", "local address to listen on")
	command.Flags().Uint16Var(&options.port, "port", 0, "local port to listen on; 0 chooses one that is free")
	command.Flags().StringVar(&options.viewer, "viewer", "", "program to show the display with; it gets HOST::PORT")
	return command
}

// viewers are programs that show a display, in the order in which they are looked for,
// with what each wants to be told.
var viewers = []struct {
	program string
	address func(host, port string) []string
}{
	{"remote-viewer", func(host, port string) []string { return []string{"vnc://" + net.JoinHostPort(host, port)} }},
	{"xtigervncviewer", doubleColon},
	{"vncviewer", doubleColon},
	{"gvncviewer", doubleColon},
	{"vinagre", func(host, port string) []string { return []string{"vnc://" + net.JoinHostPort(host, port)} }},
}

// doubleColon keeps viewers from taking the port for the number of a display.
func doubleColon(host, port string) []string { return []string{host + "::" + port} }

// viewer finds a program and its arguments.
func (o *vncOptions) find(host, port string) (string, []string, error) {
	if o.viewer != "" {
		path, err := exec.LookPath(o.viewer)
		if err != nil {
			return "", nil, fmt.Errorf("--viewer: %w", err)
		}
		return path, doubleColon(host, port), nil
	}
	for _, known := range viewers {
		if path, err := exec.LookPath(known.program); err == nil {
			return path, known.address(host, port), nil
		}
	}
	if runtime.GOOS == "darwin" {
		return "open", []string{"-W", "vnc://" + net.JoinHostPort(host, port)}, nil
	}
	return "", nil, errors.New("no viewer for VNC was found: install virt-viewer or tigervnc-viewer, name yours by --viewer, or use --proxy-only")
}

// vnc serves the display at a local port while a viewer runs, or until the context ends.
func (c *cli) vnc(ctx context.Context, key client.ObjectKey, options vncOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(options.address, strconv.Itoa(int(options.port))))
	if err != nil {
		return c.listenError(err)
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	var program string
	var arguments []string
	if !options.proxyOnly {
		if program, arguments, err = options.find(host, port); err != nil {
			return err
		}
	}
	// The display is opened once before a viewer is: what is wrong is said here and
	// not by a viewer that shows nothing.
	first, err := c.openExclusive(ctx, key, "vnc", options.takeover)
	if err != nil {
		return err
	}
	hangUp(first)
	serving := make(chan error, 1)
	go func() { serving <- c.serveVNC(ctx, listener, key) }()
	if options.proxyOnly {
		_, _ = fmt.Fprintf(c.streams.Out, "{\"address\":%q,\"port\":%s}\n", host, port)
		err := <-serving
		if ctx.Err() != nil {
			return nil // Ctrl+C is how it ends
		}
		return err
	}
	c.say("Showing the display of %s in %s.", key, program)
	command := exec.CommandContext(ctx, program, arguments...)
	command.Stdout, command.Stderr = c.streams.ErrOut, c.streams.ErrOut
	if err := command.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}

// serveVNC gives each connection of a viewer a stream; a viewer that connects again
// after the guest has moved gets another.
func (c *cli) serveVNC(ctx context.Context, listener net.Listener, key client.ObjectKey) error {
	for {
		local, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = local.Close() }()
			conn, err := c.open(ctx, key, "vnc", nil)
			if err == nil {
				err = tunnel(ctx, conn, local)
			}
			if err != nil && ctx.Err() == nil {
				c.say("display of %s: %v", key, c.explain(err))
			}
		}()
	}
}
