// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	restclient "k8s.io/client-go/rest"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/wsdial"
)

// dialer opens a stream of a machine instance; path is what comes below it.
type dialer func(ctx context.Context, namespace, name string, path ...string) (*websocket.Conn, error)

// putter sends an order to a machine instance; path is what comes below it.
type putter func(ctx context.Context, namespace, name string, body any, path ...string) error

// kubeVirtSubprotocol is what virt-api calls the same framing.
const kubeVirtSubprotocol = "plain.kubevirt.io"

func instancePath(namespace, name string, path []string) []string {
	return append([]string{"apis", "subresources.kubevirt.io", "v1", "namespaces", namespace, "virtualmachineinstances", name}, path...)
}

// dialKubeVirt opens streams of KubeVirt through kube-apiserver. The client may be
// gone before the answer comes: the dial ends with its context.
func dialKubeVirt(config *restclient.Config) dialer {
	return func(ctx context.Context, namespace, name string, path ...string) (*websocket.Conn, error) {
		return wsdial.Dial(ctx, config, wsdial.Target{Path: instancePath(namespace, name, path), Subprotocol: kubeVirtSubprotocol})
	}
}

// putKubeVirt sends orders to KubeVirt through kube-apiserver.
func putKubeVirt(config *restclient.Config) (putter, error) {
	config = restclient.CopyConfig(config)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	api, err := restclient.UnversionedRESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing calls of the engine's subresources: %w", err)
	}
	return func(ctx context.Context, namespace, name string, body any, path ...string) error {
		content, err := json.Marshal(body)
		if err != nil {
			return err
		}
		return api.Put().AbsPath(append([]string{"/"}, instancePath(namespace, name, path)...)...).Body(content).Do(ctx).Error()
	}, nil
}

// needPhase refuses what only a machine in one of the phases can do.
func needPhase(machine *v1alpha2.VirtualMachine, what string, phases ...v1alpha2.MachinePhase) error {
	if slices.Contains(phases, machine.Status.Phase) {
		return nil
	}
	var words []string
	for _, phase := range phases {
		words = append(words, string(phase))
	}
	return apierrors.NewConflict(resource(what), machine.Name, fmt.Errorf("the machine is %s: %s needs it to be %s; start it first",
		phaseOrUnknown(machine.Status.Phase), what, strings.Join(words, " or ")))
}

// engineError keeps KubeVirt's answer where there is one, in the words of this API.
func engineError(stream, name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return apierrors.NewTimeoutError(fmt.Sprintf("%s of %s: KubeVirt has not answered within %s: does the guest answer there?", stream, name, dialTimeout), 0)
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		reason := status.Status()
		switch reason.Code {
		case http.StatusNotFound, http.StatusConflict:
			return apierrors.NewConflict(resource(stream), name, fmt.Errorf("the guest is not running yet: %s", reason.Message))
		case http.StatusBadRequest:
			return apierrors.NewBadRequest(reason.Message)
		case http.StatusServiceUnavailable:
			return apierrors.NewServiceUnavailable(fmt.Sprintf("%s of %s: KubeVirt does not answer: %s", stream, name, reason.Message))
		case http.StatusInternalServerError:
			// virt-api connects to the guest's port itself, and has no better words
			// for that nobody listens there.
			if _, cause, found := strings.Cut(reason.Message, "dialing VM: "); found {
				return apierrors.NewServiceUnavailable(fmt.Sprintf("nothing in the guest of %s answers there: %s", name, cause))
			}
		}
	}
	return apierrors.NewInternalError(fmt.Errorf("%s of %s at KubeVirt: %w", stream, name, err))
}

func resource(subresource string) schema.GroupResource {
	return schema.GroupResource{Group: GroupVersion.Group, Resource: "virtualmachines/" + subresource}
}

func phaseOrUnknown(phase v1alpha2.MachinePhase) string {
	if phase == "" {
		return "not started"
	}
	return string(phase)
}
