// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"net/url"

	gorilla "github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/deckhouse/virtualization/internal/subresources/names"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// openStream opens a stream of a machine. A refusal by the server comes back in
// its own words.
func openStream(ctx context.Context, config *rest.Config, namespace, name, stream string, query url.Values) (*gorilla.Conn, error) {
	conn, err := wsdial.Dial(ctx, config, wsdial.Target{
		Path:  []string{"apis", names.Group, names.Version, "namespaces", namespace, "virtualmachines", name, stream},
		Query: query, Subprotocol: names.Subprotocol,
	})
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return nil, errors.New(status.Status().Message)
	}
	return conn, err
}
