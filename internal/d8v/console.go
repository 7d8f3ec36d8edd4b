// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// escapeKey is Ctrl+], the key that telnet and virsh leave a console with.
const escapeKey = 0x1d

// errEscaped says that the user left; it is no failure.
var errEscaped = errors.New("left by the user")

func newConsoleCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	var timeout time.Duration
	command := &cobra.Command{
		Use:     "console NAME[.NAMESPACE]",
		Short:   "Connect to the serial console of a machine",
		Example: "  d8v console web\n  d8v console web.production",
		Args:    cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			namespace, name, err := target(flags, args[0])
			if err != nil {
				return err
			}
			config, err := flags.ToRESTConfig()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), timeout)
			defer cancel()
			conn, err := openStream(ctx, config, namespace, name, "console", nil)
			if err != nil {
				return fmt.Errorf("console of %s/%s: %w", namespace, name, err)
			}
			_, _ = fmt.Fprintf(streams.ErrOut, "Connected to %s/%s. Press Enter for a prompt, Ctrl+] to leave.\r\n", namespace, name)
			return runConsole(command.Context(), conn, streams)
		},
	}
	command.Flags().DurationVar(&timeout, "connect-timeout", 30*time.Second, "how long to wait for the connection")
	return command
}

// runConsole puts the terminal into raw mode, so that every key reaches the
// guest, and joins it with conn until either side ends.
func runConsole(ctx context.Context, conn *gorilla.Conn, streams genericiooptions.IOStreams) error {
	if file, ok := streams.In.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		state, err := term.MakeRaw(int(file.Fd()))
		if err != nil {
			return fmt.Errorf("preparing the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(file.Fd()), state) }()
	}
	return join(ctx, conn, streams.In, streams.Out)
}

// join copies in both directions until the context ends. It returns nil when the
// user left, when the guest's side ended normally, or when the input ended and the
// server closed.
func join(ctx context.Context, conn *gorilla.Conn, in io.Reader, out io.Writer) error {
	done := make(chan error, 2)
	go func() { done <- receive(conn, out) }()
	go func() {
		// The end of a piped input does not end the console: its answer is still
		// to come.
		if err := send(conn, in); err != nil {
			done <- err
		}
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = conn.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, ""), time.Now().Add(time.Second))
	_ = conn.Close()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the console was left: %w", ctx.Err())
	case errors.Is(err, errEscaped), gorilla.IsCloseError(err, gorilla.CloseNormalClosure):
		return nil
	case gorilla.IsCloseError(err, gorilla.CloseGoingAway):
		return fmt.Errorf("the console was closed by the server: the machine stopped, or somebody else took the console over: %w", err)
	default:
		return fmt.Errorf("the connection was lost: %w", err)
	}
}

func receive(conn *gorilla.Conn, out io.Writer) error {
	for {
		_, reader, err := conn.NextReader()
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, reader); err != nil {
			return err
		}
	}
}

// send returns nil at the end of the input.
func send(conn *gorilla.Conn, in io.Reader) error {
	buffer := make([]byte, 1024)
	for {
		n, err := in.Read(buffer)
		escaped := false
		for i, key := range buffer[:n] {
			if key == escapeKey {
				n, escaped = i, true
				break
			}
		}
		if n > 0 {
			if err := conn.WriteMessage(gorilla.BinaryMessage, buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case escaped:
			return errEscaped
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
