// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/subresources/names"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// streamStorage is one stream of a running machine: console, vnc or portforward.
type streamStorage struct {
	name     string
	machines client.Client
	// dial opens the same stream of KubeVirt.
	dial  dialer
	relay relay
}

// dialer opens a stream of a machine instance; path is what comes below it.
type dialer func(ctx context.Context, namespace, name string, path ...string) (*websocket.Conn, error)

// kubeVirtSubprotocol is what virt-api calls the same framing.
const kubeVirtSubprotocol = "plain.kubevirt.io"

// dialKubeVirt opens streams of KubeVirt through kube-apiserver. The client may be
// gone before the answer comes: the dial ends with its context.
func dialKubeVirt(config *restclient.Config) dialer {
	return func(ctx context.Context, namespace, name string, path ...string) (*websocket.Conn, error) {
		instance := []string{"apis", "subresources.kubevirt.io", "v1", "namespaces", namespace, "virtualmachineinstances", name}
		return wsdial.Dial(ctx, config, wsdial.Target{Path: append(instance, path...), Subprotocol: kubeVirtSubprotocol})
	}
}

var _ rest.Connecter = &streamStorage{}

// New implements rest.Storage.
func (s *streamStorage) New() runtime.Object { return &v1alpha2.VirtualMachine{} }

// Destroy implements rest.Storage.
func (s *streamStorage) Destroy() {}

// NewConnectOptions implements rest.Connecter. The options are few and read from
// the query of the request.
func (s *streamStorage) NewConnectOptions() (runtime.Object, bool, string) { return nil, false, "" }

// ConnectMethods implements rest.Connecter.
func (s *streamStorage) ConnectMethods() []string { return []string{http.MethodGet, http.MethodPost} }

// Connect implements rest.Connecter. It refuses before it upgrades, so that the
// client reads an ordinary Status.
func (s *streamStorage) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	machine, err := getMachine(ctx, s.machines, name)
	if err != nil {
		return nil, err
	}
	if phase := machine.Status.Phase; phase != v1alpha2.MachineRunning && phase != v1alpha2.MachineMigrating {
		return nil, apierrors.NewConflict(resource(s.name), name,
			fmt.Errorf("the machine is %s: %s needs it to be Running or Migrating; start it first", phaseOrUnknown(phase), s.name))
	}
	namespace, _ := genericapirequest.NamespaceFrom(ctx)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r, namespace, name); err != nil {
			responder.Error(err)
		}
	}), nil
}

// serve joins the client's websocket with KubeVirt's. An error is returned only
// while the client can still be answered with a Status.
func (s *streamStorage) serve(w http.ResponseWriter, r *http.Request, namespace, name string) error {
	path, err := streamPath(s.name, r.URL.Query())
	if err != nil {
		return err
	}
	if !websocket.IsWebSocketUpgrade(r) {
		return apierrors.NewBadRequest(s.name + " is a websocket: send an Upgrade request")
	}
	upstream, err := s.dial(r.Context(), namespace, name, path...)
	if err != nil {
		return dialError(s.name, name, err)
	}
	upgrader := websocket.Upgrader{
		Subprotocols: []string{names.Subprotocol},
		// Kube-apiserver authenticated the request by its own means; there is no
		// cookie that a foreign page could make use of.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	downstream, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		// The upgrader answered the client already.
		_ = upstream.Close()
		return nil //nolint:nilerr // see above
	}
	s.relay.run(r.Context(), downstream, upstream)
	return nil
}

// streamPath is the path below the machine instance in KubeVirt's API.
func streamPath(name string, query url.Values) ([]string, error) {
	if name != "portforward" {
		return []string{name}, nil
	}
	port, err := strconv.Atoi(query.Get("port"))
	if err != nil || port < 1 || port > 65535 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("port=%s: give a port from 1 to 65535", query.Get("port")))
	}
	protocol := query.Get("protocol")
	if protocol == "" {
		protocol = "tcp"
	}
	if !slices.Contains([]string{"tcp", "udp"}, protocol) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("protocol=%s: use tcp or udp", protocol))
	}
	return []string{name, strconv.Itoa(port), protocol}, nil
}

// dialError keeps KubeVirt's answer where there is one, in the words of this API.
func dialError(stream, name string, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		reason := status.Status()
		switch reason.Code {
		case http.StatusNotFound, http.StatusConflict:
			return apierrors.NewConflict(resource(stream), name, fmt.Errorf("the guest is not running yet: %s", reason.Message))
		case http.StatusBadRequest:
			return apierrors.NewBadRequest(reason.Message)
		}
	}
	return apierrors.NewInternalError(fmt.Errorf("opening %s of %s at KubeVirt: %w", stream, name, err))
}

func resource(stream string) schema.GroupResource {
	return schema.GroupResource{Group: GroupVersion.Group, Resource: "virtualmachines/" + stream}
}

func phaseOrUnknown(phase v1alpha2.MachinePhase) string {
	if phase == "" {
		return "not started"
	}
	return string(phase)
}
