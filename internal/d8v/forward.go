// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// forwarding is one port of the guest at one port here.
type forwarding struct {
	protocol      string
	local, remote uint16
}

const portForms = "[tcp/|udp/]LOCAL[:REMOTE]"

func parseForwarding(argument string) (forwarding, error) {
	out := forwarding{protocol: "tcp"}
	ports := argument
	if protocol, rest, found := strings.Cut(argument, "/"); found {
		out.protocol, ports = protocol, rest
	}
	local, remote, both := strings.Cut(ports, ":")
	if !both {
		remote = local
	}
	var err error
	if out.protocol != "tcp" && out.protocol != "udp" {
		return out, fmt.Errorf("%s: the protocol %s is not known: give %s", argument, out.protocol, portForms)
	}
	// Port 0 here means any that is free.
	if out.local, err = parsePort(local, 0); err != nil && (!both || local != "") {
		return out, fmt.Errorf("%s: %w: give %s", argument, err, portForms)
	}
	if out.remote, err = parsePort(remote, 1); err != nil {
		return out, fmt.Errorf("%s: %w: give %s", argument, err, portForms)
	}
	return out, nil
}

func parsePort(text string, least uint64) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port < least {
		return 0, fmt.Errorf("%q is no port from %d to 65535", text, least)
	}
	return uint16(port), nil
}

// query are the parameters of the stream.
func (f forwarding) query() url.Values {
	return url.Values{"port": {strconv.Itoa(int(f.remote))}, "protocol": {f.protocol}}
}

func (c *cli) newPortForwardCommand() *cobra.Command {
	var address string
	var stdio bool
	command := &cobra.Command{
		Use:   "port-forward MACHINE PORT...",
		Short: "Make ports of a machine reachable here, or join one with the standard input and output",
		Long: `Make ports of a machine reachable here. Each connection is a tunnel of its own, so that
one which is lost does not disturb the others, and new ones work again when the guest has
moved or restarted.

MACHINE is ` + targetForms + `. PORT is ` + portForms + `;
with 0, or nothing before the colon, a free local port is chosen and printed.`,
		Example: c.examples("port-forward web 8080:80", "port-forward web.production tcp/2222:22 udp/5353:53",
			"port-forward web --address 0.0.0.0 8080:80", "port-forward web --stdio 22"),
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: c.completeMachine,
		RunE: func(command *cobra.Command, args []string) error {
			key, err := c.target(args[0])
			if err != nil {
				return err
			}
			var wanted []forwarding
			for _, argument := range args[1:] {
				one, err := parseForwarding(argument)
				if err != nil {
					return err
				}
				wanted = append(wanted, one)
			}
			if stdio {
				return c.forwardStdio(command.Context(), key, wanted)
			}
			return c.forward(command.Context(), key, address, wanted)
		},
	}
	command.Flags().StringVar(&address, "address", "127.0.0.1", "local address to listen on")
	command.Flags().BoolVar(&stdio, "stdio", false, "join one TCP port with the standard input and output, as ProxyCommand of ssh wants it")
	return command
}

// forwardStdio joins a port with the standard input and output until either side ends.
func (c *cli) forwardStdio(ctx context.Context, key client.ObjectKey, wanted []forwarding) error {
	if len(wanted) != 1 || wanted[0].protocol != "tcp" {
		return errors.New("--stdio joins one port of tcp: give one port")
	}
	conn, err := c.open(ctx, key, "portforward", wanted[0].query())
	if err != nil {
		return c.forwardError(key, wanted[0], err)
	}
	return tunnel(ctx, conn, struct {
		io.Reader
		io.Writer
	}{c.streams.In, c.streams.Out})
}

func (c *cli) forwardError(key client.ObjectKey, port forwarding, err error) error {
	return fmt.Errorf("port %s/%d of %s: %w", port.protocol, port.remote, key, c.explain(err))
}

// forward listens until the context ends. What keeps the first listener from
// listening ends all.
func (c *cli) forward(ctx context.Context, key client.ObjectKey, address string, wanted []forwarding) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, port := range wanted {
		at := net.JoinHostPort(address, strconv.Itoa(int(port.local)))
		var serve func(context.Context) error
		switch port.protocol {
		case "udp":
			packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", at)
			if err != nil {
				return c.listenError(err)
			}
			at = packets.LocalAddr().String()
			serve = func(ctx context.Context) error { return c.serveUDP(ctx, packets, key, port) }
		default:
			listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
			if err != nil {
				return c.listenError(err)
			}
			at = listener.Addr().String()
			serve = func(ctx context.Context) error { return c.serveTCP(ctx, listener, key, port) }
		}
		c.say("Forwarding %s/%s to port %d of %s.", port.protocol, at, port.remote, key)
		group.Go(func() error { return serve(ctx) })
	}
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // Ctrl+C is how it ends
	}
	return err
}

func (c *cli) listenError(err error) error {
	return fmt.Errorf("%w: choose another local port, or 0 for any that is free", err)
}

// serveTCP gives each connection a tunnel of its own.
func (c *cli) serveTCP(ctx context.Context, listener net.Listener, key client.ObjectKey, port forwarding) error {
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		local, err := listener.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = local.Close() }()
			conn, err := c.open(ctx, key, "portforward", port.query())
			if err != nil {
				c.say("%v", c.forwardError(key, port, err))
				return
			}
			if err := tunnel(ctx, conn, local); err != nil && ctx.Err() == nil {
				c.say("%v", c.forwardError(key, port, err))
			}
		}()
	}
}

// lingerAfter is how long the guest may be silent once everything was sent. A websocket
// cannot be closed in one direction, so that the guest never hears of the end; whoever
// waits for an answer still gets it.
const lingerAfter = 10 * time.Second

// tunnel copies between a stream and a local connection until either ends.
func tunnel(ctx context.Context, conn *gorilla.Conn, local io.ReadWriter) error {
	defer hangUp(conn)
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	sent := make(chan error, 1)
	go func() { sent <- send(conn, local) }()
	received := make(chan error, 1)
	silent := time.NewTimer(lingerAfter)
	silent.Stop()
	progress := make(chan struct{}, 1)
	go func() { received <- receiveInto(conn, local, progress) }()
	finished := false
	for {
		select {
		case err := <-received:
			if isEnd(err) || ctx.Err() != nil {
				return nil
			}
			return err
		case err := <-sent:
			if err != nil {
				return err
			}
			finished = true
			silent.Reset(lingerAfter)
		case <-progress:
			if finished {
				silent.Reset(lingerAfter)
			}
		case <-silent.C:
			return nil
		}
	}
}

// isEnd tells the end of a connection from its loss. An internal error without a word
// is how KubeVirt tells that the guest's side was reset, which is an end, too: who
// loses a connection on the way says so.
func isEnd(err error) bool {
	var closed *gorilla.CloseError
	return errors.As(err, &closed) && (closed.Code == gorilla.CloseNormalClosure || closed.Code == gorilla.CloseGoingAway ||
		closed.Code == gorilla.CloseInternalServerErr && closed.Text == "")
}

// send copies until the end of the local side, which is no error.
func send(conn *gorilla.Conn, local io.Reader) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := local.Read(buffer)
		if n > 0 {
			if err := conn.WriteMessage(gorilla.BinaryMessage, buffer[:n]); err != nil {
				return nil //nolint:nilerr // the side that reads knows why
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
	}
}

func receiveInto(conn *gorilla.Conn, local io.Writer, progress chan<- struct{}) error {
	for {
		_, reader, err := conn.NextReader()
		if err != nil {
			return err
		}
		if _, err := io.Copy(local, reader); err != nil {
			return err
		}
		select {
		case progress <- struct{}{}:
		default:
		}
	}
}
