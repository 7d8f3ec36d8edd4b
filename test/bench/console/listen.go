// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	gorilla "github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
)

// listen waits for a word on a guest's serial console. Both machines are listened
// to through KubeVirt, and the connection is tried all the time: what a guest says
// before somebody listens is lost.
func (c *cluster) listen(ctx context.Context, name, word string) error {
	var last error
	for ctx.Err() == nil {
		conn, err := dial(ctx, c.config, fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/console", c.namespace, name))
		if err == nil {
			if err = hear(ctx, conn, word); err == nil {
				return nil
			}
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(poll):
		}
	}
	return errors.Join(ctx.Err(), last)
}

func dial(ctx context.Context, config *rest.Config, path string) (*gorilla.Conn, error) {
	address, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	address.Path = path
	address.Scheme = map[string]string{"https": "wss", "http": "ws"}[address.Scheme]
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	if config.BearerToken != "" {
		header.Set("Authorization", "Bearer "+config.BearerToken)
	}
	dialer := gorilla.Dialer{TLSClientConfig: tlsConfig, Subprotocols: []string{"plain.kubevirt.io"}}
	conn, response, err := dialer.DialContext(ctx, address.String(), header)
	if err != nil {
		return nil, err
	}
	return conn, response.Body.Close()
}

// hear reads until the word was said.
func hear(ctx context.Context, conn *gorilla.Conn, word string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	var said bytes.Buffer
	for {
		_, part, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("the console ended after %d bytes: %w", said.Len(), err)
		}
		said.Write(part)
		if bytes.Contains(said.Bytes(), []byte(word)) {
			return nil
		}
	}
}
