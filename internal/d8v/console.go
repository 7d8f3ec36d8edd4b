// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// escapeKey is Ctrl+], the key that telnet and virsh leave a console with.
const escapeKey = 0x1d

// errEscaped says that the user left; it is no failure.
var errEscaped = errors.New("left by the user")

// takeover is how a stream that one person at a time uses is opened.
type takeover struct {
	timeout time.Duration
	force   bool
}

func (o *takeover) addFlags(command *cobra.Command) {
	command.Flags().DurationVar(&o.timeout, "connect-timeout", 30*time.Second, "how long to wait for the connection")
	command.Flags().BoolVar(&o.force, "take-over", false, "take the session over from whoever has it, without asking")
}

func (c *cli) newConsoleCommand() *cobra.Command {
	var options takeover
	command := &cobra.Command{
		Use:   "console MACHINE",
		Short: "Connect to the serial console of a machine",
		Long: `Connect to the serial console of a machine. Ctrl+] leaves. A connection that is lost is
made again: the guest may be moving to another node.

MACHINE is ` + targetForms + `.`,
		Example: c.examples("console web", "console web.production"),
	}
	c.ofMachine(command, func(ctx context.Context, key client.ObjectKey) error {
		if err := c.console(ctx, key, options); err != nil {
			return fmt.Errorf("console of %s: %w", key, c.explain(err))
		}
		return nil
	})
	options.addFlags(command)
	return command
}

func (c *cli) examples(lines ...string) string {
	return "  " + c.name + " " + strings.Join(lines, "\n  "+c.name+" ")
}

// console joins the terminal with the console until the user leaves or the guest ends.
func (c *cli) console(ctx context.Context, key client.ObjectKey, options takeover) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.openExclusive(ctx, key, "console", options)
	if err != nil {
		return err
	}
	c.say("Connected to %s. Press Enter for a prompt, Ctrl+] to leave.\r", key)
	restore, err := rawTerminal(c.streams.In)
	if err != nil {
		hangUp(conn)
		return err
	}
	defer restore()
	keys := readKeys(ctx, c.streams.In)
	for {
		began := c.began(ctx, key)
		err := attach(ctx, conn, keys, c.streams.Out)
		if done, err := ended(ctx, err); done {
			return err
		}
		c.say("\r\nThe connection was lost (%v). Connecting again, Ctrl+] leaves.\r", err)
		if conn, err = c.reconnect(ctx, key, keys, began); err != nil {
			if errors.Is(err, errEscaped) {
				return nil
			}
			return err
		}
		c.say("\r\nConnected to %s again.\r", key)
	}
}

// ended tells whether the end of a connection is the end of the session, and with
// what result.
func ended(ctx context.Context, err error) (bool, error) {
	var output *outputError
	var closed *gorilla.CloseError
	switch {
	case ctx.Err() != nil:
		return true, fmt.Errorf("the console was left: %w", ctx.Err())
	case errors.Is(err, errEscaped), gorilla.IsCloseError(err, gorilla.CloseNormalClosure):
		return true, nil
	case errors.As(err, &output):
		return true, output.err
	case errors.As(err, &closed) && closed.Code == gorilla.CloseGoingAway:
		return true, fmt.Errorf("the session has ended: %s", cmp.Or(closed.Text, "somebody else took it over"))
	default:
		return false, nil
	}
}

// openExclusive opens a stream that one person at a time uses, and asks before it
// takes it away from somebody.
func (c *cli) openExclusive(ctx context.Context, key client.ObjectKey, stream string, options takeover) (*gorilla.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, options.timeout)
	defer cancel()
	other, err := c.otherHolder(ctx, key, stream)
	// What keeps the server from answering shows in the next request.
	if err == nil && other != nil {
		if err := c.confirm(other, stream, options); err != nil {
			return nil, err
		}
	}
	return c.open(ctx, key, stream, nil)
}

func (c *cli) confirm(other *holder, stream string, options takeover) error {
	if options.force {
		c.say("Taking the %s over from %s.", stream, other)
		return nil
	}
	refusal := fmt.Errorf("%s is used by %s: wait until it is free, or take it over by --take-over", stream, other)
	if !isTerminal(c.streams.In) {
		return refusal
	}
	_, _ = fmt.Fprintf(c.streams.ErrOut, "The %s is used by %s. Take it over? [y/N] ", stream, other)
	answer, err := bufio.NewReader(c.streams.In).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") {
		return refusal
	}
	return nil
}

// reconnect tries until the machine can be reached again, the user leaves, or it is
// certain that it is of no use. The server lets a person take a console over from
// themselves, so that a session that began after the lost one is looked for first.
func (c *cli) reconnect(ctx context.Context, key client.ObjectKey, keys <-chan keystroke, began time.Time) (*gorilla.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.reconnectFor, fmt.Errorf("gave up after %s", c.reconnectFor))
	defer cancel()
	pace := c.retry
	for {
		if later, err := c.holder(ctx, key, "console"); err == nil && !began.IsZero() && later.Since.After(began) {
			return nil, fmt.Errorf("the session has ended: the console is used by %s", later)
		}
		conn, err := c.open(ctx, key, "console", nil)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return conn, err
		}
		if apierrors.IsConflict(err) {
			// The machine is not ready yet, or somebody else was faster.
			if other, problem := c.otherHolder(ctx, key, "console"); problem == nil && other != nil {
				return nil, err
			}
		}
		if err := pause(ctx, keys, pace.Step()); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// pause waits; keys that are pressed meanwhile have nowhere to go.
func pause(ctx context.Context, keys <-chan keystroke, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return nil
		case key, open := <-keys:
			if key.escape {
				return errEscaped
			}
			if !open {
				keys = nil
			}
		}
	}
}

// attach joins one connection with the terminal until either ends.
func attach(ctx context.Context, conn *gorilla.Conn, keys <-chan keystroke, out io.Writer) error {
	defer hangUp(conn)
	received := make(chan error, 1)
	go func() { received <- receive(conn, out) }()
	for {
		select {
		case err := <-received:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case key, open := <-keys:
			if !open {
				// The end of a piped input does not end the console: its answer is
				// still to come.
				keys = nil
				continue
			}
			if len(key.data) > 0 && conn.WriteMessage(gorilla.BinaryMessage, key.data) != nil {
				// Why it cannot be written to is known to the side that reads.
				_ = conn.SetReadDeadline(time.Now().Add(time.Second))
				return <-received
			}
			if key.escape {
				return errEscaped
			}
		}
	}
}

// outputError says that the terminal is gone; another connection would not help.
type outputError struct{ err error }

// Error implements error.
func (e *outputError) Error() string { return e.err.Error() }

func receive(conn *gorilla.Conn, out io.Writer) error {
	for {
		_, data, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return &outputError{err}
		}
	}
}

// keystroke is what was typed; escape is set when Ctrl+] came after it.
type keystroke struct {
	data   []byte
	escape bool
}

// readKeys reads the terminal for all connections of a session. The channel is closed
// at the end of the input.
func readKeys(ctx context.Context, in io.Reader) <-chan keystroke {
	keys := make(chan keystroke)
	go func() {
		defer close(keys)
		for {
			buffer := make([]byte, 1024)
			n, err := in.Read(buffer)
			key := keystroke{data: buffer[:n]}
			if at := strings.IndexByte(string(key.data), escapeKey); at >= 0 {
				key = keystroke{data: buffer[:at], escape: true}
			}
			if n > 0 {
				select {
				case keys <- key:
				case <-ctx.Done():
					return
				}
			}
			if err != nil || key.escape {
				return
			}
		}
	}()
	return keys
}

func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// rawTerminal lets every key reach the guest; restore gives the terminal back.
func rawTerminal(in io.Reader) (restore func(), err error) {
	if !isTerminal(in) {
		return func() {}, nil
	}
	descriptor := int(in.(*os.File).Fd())
	state, err := term.MakeRaw(descriptor)
	if err != nil {
		return nil, fmt.Errorf("preparing the terminal: %w", err)
	}
	return func() { _ = term.Restore(descriptor, state) }, nil
}
