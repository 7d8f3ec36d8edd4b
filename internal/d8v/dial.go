// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	gorilla "github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport/websocket"

	"github.com/deckhouse/virtualization/internal/subresources/names"
)

// openStream opens a stream of a machine. A refusal by the server comes back as
// its own message.
func openStream(ctx context.Context, config *rest.Config, namespace, name, stream string, query url.Values) (*gorilla.Conn, error) {
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	address := base.JoinPath("apis", names.Group, names.Version, "namespaces", url.PathEscape(namespace),
		"virtualmachines", url.PathEscape(name), stream)
	address.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	roundTripper, holder, err := websocket.RoundTripperFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	conn, err := websocket.Negotiate(roundTripper, holder, request, names.Subprotocol)
	if err != nil {
		return nil, explain(err)
	}
	return conn, nil
}

// explain finds the server's own words in the error of a refused upgrade.
func explain(err error) error {
	var upgrade *httpstream.UpgradeFailureError
	if errors.As(err, &upgrade) {
		err = upgrade.Cause
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return errors.New(status.Status().Message)
	}
	return err
}
