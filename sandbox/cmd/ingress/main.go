// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command ingress is the sandbox's Ingress controller.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/deckhouse/virtualization/sandbox/internal/ingress"
)

const shutdownTimeout = 3 * time.Second

type options struct {
	class, secure, plain, health string
}

func main() {
	var o options
	flags := pflag.NewFlagSet("ingress", pflag.ExitOnError)
	flags.StringVar(&o.class, "class", "nginx", "class of the Ingresses that are served")
	flags.StringVar(&o.secure, "https-address", ":443", "address of HTTPS")
	flags.StringVar(&o.plain, "http-address", ":80", "address of HTTP")
	flags.StringVar(&o.health, "health-address", "127.0.0.1:10254", "address of /healthz")
	_ = flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ingress:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return serve(ctx, o, client, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// serve serves until the context ends, or one of the parts does.
func serve(ctx context.Context, o options, client kubernetes.Interface, log *slog.Logger) error {
	proxy := ingress.NewProxy(log)
	secure, plain := proxy.Servers()
	health := &http.Server{ReadHeaderTimeout: shutdownTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})}
	ended := make(chan error, 4)
	go func() {
		ended <- (&ingress.Controller{Client: client, Class: o.class, Proxy: proxy, Log: log}).Run(ctx)
	}()
	begin := func(server *http.Server, address string) {
		go func() { ended <- listen(ctx, server, address) }()
	}
	begin(secure, o.secure)
	begin(plain, o.plain)
	begin(health, o.health)
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, server := range []*http.Server{secure, plain, health} {
		// What still runs then is cut off; an upload goes on where it stopped.
		_ = server.Shutdown(short)
	}
	return err
}

func listen(ctx context.Context, server *http.Server, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if server.TLSConfig != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
