// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wsdial opens websockets to an API server.
package wsdial

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	gorilla "github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport/websocket"
)

// Target is one websocket of an API server.
type Target struct {
	// Path below the server's root; each element is escaped.
	Path  []string
	Query url.Values
	// Subprotocol that the server must agree to.
	Subprotocol string
}

// Dial opens a websocket with the identity of config. When the server refused the
// upgrade the error is its answer; a Status is found by errors.As with
// apierrors.APIStatus. The connection does not end with ctx.
func Dial(ctx context.Context, config *rest.Config, target Target) (*gorilla.Conn, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	elements := make([]string, len(target.Path))
	for i, element := range target.Path {
		elements[i] = url.PathEscape(element)
	}
	address := base.JoinPath(elements...)
	address.RawQuery = target.Query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	roundTripper, holder, err := websocket.RoundTripperFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	conn, err := websocket.Negotiate(roundTripper, holder, request, target.Subprotocol)
	var refused *httpstream.UpgradeFailureError
	if errors.As(err, &refused) {
		return nil, refused.Cause
	}
	return conn, err
}
