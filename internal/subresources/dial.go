// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	gorilla "github.com/gorilla/websocket"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/transport/websocket"
)

// kubeVirtSubprotocol is what virt-api calls the same framing.
const kubeVirtSubprotocol = "plain.kubevirt.io"

// kubeVirtDialer opens streams of KubeVirt through kube-apiserver.
type kubeVirtDialer struct {
	config *restclient.Config
}

// dial opens a stream of a machine instance. A refused upgrade gives an
// httpstream.UpgradeFailureError whose cause is KubeVirt's Status.
func (d *kubeVirtDialer) dial(ctx context.Context, namespace, name, path string) (*gorilla.Conn, error) {
	base, _, err := restclient.DefaultServerUrlFor(d.config)
	if err != nil {
		return nil, fmt.Errorf("finding kube-apiserver: %w", err)
	}
	target := base.JoinPath("apis", "subresources.kubevirt.io", "v1", "namespaces", url.PathEscape(namespace),
		"virtualmachineinstances", url.PathEscape(name), path)
	// The client may be gone before the answer comes: the dial ends with it.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	roundTripper, holder, err := websocket.RoundTripperFor(d.config)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	return websocket.Negotiate(roundTripper, holder, request, kubeVirtSubprotocol)
}
