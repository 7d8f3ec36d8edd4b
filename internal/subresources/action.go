// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// maxBody bounds the body of an order, in bytes.
	maxBody = 64 << 10
	// defaultUnfreeze is when a guest's file systems thaw by themselves, should whoever
	// froze them forget it. It is what KubeVirt's client has as its default.
	defaultUnfreeze = 5 * time.Minute
)

// order is what a client wants to be done with a machine.
type order struct {
	query url.Values
	body  []byte
}

// actionStorage is an order to a machine: freeze, unfreeze and the like.
type actionStorage struct {
	name     string
	machines client.Client
	// do carries the order out. It gets a machine that may be of a cache.
	do func(ctx context.Context, machine *v1alpha2.VirtualMachine, in order) error
	// code is the HTTP status of success.
	code int
}

var _ rest.Connecter = &actionStorage{}

// New implements rest.Storage.
func (s *actionStorage) New() runtime.Object { return &v1alpha2.VirtualMachine{} }

// Destroy implements rest.Storage.
func (s *actionStorage) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (s *actionStorage) NewConnectOptions() (runtime.Object, bool, string) { return nil, false, "" }

// ConnectMethods implements rest.Connecter.
func (s *actionStorage) ConnectMethods() []string { return []string{http.MethodPut} }

// Connect implements rest.Connecter.
func (s *actionStorage) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	machine, err := getMachine(ctx, s.machines, name)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r, machine); err != nil {
			responder.Error(err)
		}
	}), nil
}

func (s *actionStorage) serve(w http.ResponseWriter, r *http.Request, machine *v1alpha2.VirtualMachine) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the body of %s has at most %d bytes", s.name, maxBody))
	}
	if err != nil {
		return apierrors.NewBadRequest("reading the body: " + err.Error())
	}
	if err := s.do(r.Context(), machine, order{query: r.URL.Query(), body: body}); err != nil {
		return err
	}
	w.WriteHeader(s.code)
	return nil
}

// decode reads a body, which may be missing.
func (o order) decode(into any) error {
	if len(o.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(o.body, into); err != nil {
		return apierrors.NewBadRequest("the body is not what this subresource takes: " + err.Error())
	}
	return nil
}

// checkDryRun refuses what is no way to only check an order. It is in the body: the API
// server's library refuses it in the query.
func checkDryRun(values []string) error {
	for _, value := range values {
		if value != metav1.DryRunAll {
			return apierrors.NewBadRequest(fmt.Sprintf("dryRun: %s: use %s", value, metav1.DryRunAll))
		}
	}
	return nil
}

// newFreeze has the agent in the guest bring its file systems to rest, for a snapshot.
func newFreeze(put putter) func(context.Context, *v1alpha2.VirtualMachine, order) error {
	return func(ctx context.Context, machine *v1alpha2.VirtualMachine, in order) error {
		if err := needPhase(machine, "freeze", v1alpha2.MachineRunning); err != nil {
			return err
		}
		timeout, err := unfreezeTimeout(in)
		if err != nil {
			return err
		}
		body := virtv1.FreezeUnfreezeTimeout{UnfreezeTimeout: &metav1.Duration{Duration: timeout}}
		return agentError("freeze", machine, put(ctx, machine.Namespace, machine.Name, body, "freeze"))
	}
}

// newUnfreeze ends a freeze.
func newUnfreeze(put putter) func(context.Context, *v1alpha2.VirtualMachine, order) error {
	return func(ctx context.Context, machine *v1alpha2.VirtualMachine, _ order) error {
		if err := needPhase(machine, "unfreeze", v1alpha2.MachineRunning); err != nil {
			return err
		}
		return agentError("unfreeze", machine, put(ctx, machine.Namespace, machine.Name, struct{}{}, "unfreeze"))
	}
}

// newCancelEvacuation lets a guest stay on a node that it was told to leave.
func newCancelEvacuation(put putter) func(context.Context, *v1alpha2.VirtualMachine, order) error {
	return func(ctx context.Context, machine *v1alpha2.VirtualMachine, in order) error {
		if err := needPhase(machine, "cancelevacuation", v1alpha2.MachineRunning, v1alpha2.MachineMigrating); err != nil {
			return err
		}
		var options struct {
			DryRun []string `json:"dryRun"`
		}
		if err := in.decode(&options); err != nil {
			return err
		}
		if err := checkDryRun(options.DryRun); err != nil {
			return err
		}
		// KubeVirt marks a guest with the node that it has to leave, which is where it
		// runs, and wants to hear the name again.
		body := virtv1.EvacuateCancelOptions{EvacuationNodeName: machine.Status.NodeName, DryRun: options.DryRun}
		return engineError("cancelevacuation", machine.Name, put(ctx, machine.Namespace, machine.Name, body, "evacuate", "cancel"))
	}
}

// unfreezeTimeout is in the query or in the body. Zero means that the guest stays
// frozen until it is told otherwise.
func unfreezeTimeout(in order) (time.Duration, error) {
	var options struct {
		UnfreezeTimeout string `json:"unfreezeTimeout"`
	}
	if err := in.decode(&options); err != nil {
		return 0, err
	}
	value := options.UnfreezeTimeout
	if in.query.Has("unfreezeTimeout") {
		value = in.query.Get("unfreezeTimeout")
	}
	if value == "" {
		return defaultUnfreeze, nil
	}
	timeout, err := time.ParseDuration(value)
	if err != nil || timeout < 0 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("unfreezeTimeout=%s: give a duration, such as 5m or 30s", value))
	}
	return timeout, nil
}

// agentError names the usual cause of a freeze that failed: KubeVirt answers a missing
// agent with an internal error.
func agentError(what string, machine *v1alpha2.VirtualMachine, err error) error {
	if err == nil {
		return nil
	}
	if apierrors.IsInternalError(err) && !meta.IsStatusConditionTrue(machine.Status.Conditions, v1alpha2.ConditionAgentReady) {
		return apierrors.NewConflict(resource(what), machine.Name,
			fmt.Errorf("the agent in the guest does not answer, and only it can do that: install and start qemu-guest-agent (%w)", err))
	}
	return engineError(what, machine.Name, err)
}
