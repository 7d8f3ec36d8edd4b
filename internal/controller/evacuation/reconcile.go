// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

type (
	loop      = shared.Reconciler[*v1alpha2.VirtualMachine, Observed]
	guardLoop = shared.Reconciler[*v1alpha2.VirtualMachineOperation, Departing]
)

type reconciler struct {
	shared.Executor
	// direct reads past the cache, which may still show a mark that was taken back.
	direct   client.Reader
	clock    clock.PassiveClock
	takeback func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error
	main     *loop
}

// refusalDelay is how long to wait when an operation is refused: somebody else's
// came in between, or a policy speaks against it.
const refusalDelay = 15 * time.Second

// Reconcile runs the shared loop. An operation that is refused is tried again.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (ctrl.Result, error) {
	result, err := r.main.Reconcile(ctx, req)
	if refusal := shared.RefusalOf(err); refusal != nil {
		ctrl.LoggerFrom(ctx).Info("waiting, because the operation that moves the guest is refused", "answer", refusal.Message)
		return ctrl.Result{RequeueAfter: refusalDelay}, nil
	}
	return result, err
}

func (r *reconciler) newLoop() *loop {
	return &loop{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualMachine { return &v1alpha2.VirtualMachine{} },
		Observe:  r.observe,
		Decide: func(o Observed) shared.Plan[*v1alpha2.VirtualMachine] {
			decided := decide(o)
			if decided.takeback {
				guest := o.Guest.DeepCopy()
				decided.Actions = []shared.Action{{Name: "letting the guest stay", Run: func(ctx context.Context) error {
					return r.takeback(ctx, guest)
				}}}
			}
			return decided.Plan
		},
	}
}

func (r *reconciler) newGuard() *guardLoop {
	return &guardLoop{
		Executor: r.Executor,
		New:      func() *v1alpha2.VirtualMachineOperation { return &v1alpha2.VirtualMachineOperation{} },
		Observe: func(ctx context.Context, operation *v1alpha2.VirtualMachineOperation) (Departing, error) {
			guest, err := readGuest(ctx, r.Client, client.ObjectKey{Namespace: operation.Namespace, Name: operation.Spec.VirtualMachineName})
			return Departing{Operation: operation, Guest: guest}, err
		},
		Decide: func(d Departing) shared.Plan[*v1alpha2.VirtualMachineOperation] { return guard(d, r.takeback) },
	}
}

func (r *reconciler) observe(ctx context.Context, machine *v1alpha2.VirtualMachine) (Observed, error) {
	o := Observed{Machine: machine, Now: r.clock.Now()}
	key := client.ObjectKeyFromObject(machine)
	var err error
	if o.Guest, err = readGuest(ctx, r.Client, key); err != nil || mark(o.Guest) == "" {
		return o, err
	}
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := r.Client.List(ctx, list, client.InNamespace(machine.Namespace), client.MatchingFields{operations.ByMachine: machine.Name}); err != nil {
		return Observed{}, fmt.Errorf("listing the machine's operations: %w", err)
	}
	o.Operations = list.Items
	if o.active() == nil {
		if o.Guest, err = readGuest(ctx, r.direct, key); err != nil || mark(o.Guest) == "" {
			return o, err
		}
	}
	o.Node, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: mark(o.Guest)}, &corev1.Node{})
	return o, err
}

// readGuest gives the guest of a machine, which has its name, or nil.
func readGuest(ctx context.Context, reader client.Reader, key client.ObjectKey) (*virtv1.VirtualMachineInstance, error) {
	return shared.Find(ctx, reader, key, &virtv1.VirtualMachineInstance{})
}

// newTakeBack calls KubeVirt's subresource, which is all that the controller may do
// to a mark.
func newTakeBack(config *rest.Config, httpClient *http.Client) (func(context.Context, *virtv1.VirtualMachineInstance) error, error) {
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	api, err := rest.UnversionedRESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("preparing calls of the engine's subresources: %w", err)
	}
	return func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
		body, err := json.Marshal(virtv1.EvacuateCancelOptions{EvacuationNodeName: guest.Status.EvacuationNodeName})
		if err != nil {
			return err
		}
		err = api.Put().AbsPath("/apis/subresources.kubevirt.io/v1/namespaces", guest.Namespace,
			"virtualmachineinstances", guest.Name, "evacuate", "cancel").Body(body).Do(ctx).Error()
		if apierrors.IsNotFound(err) {
			// There is no guest any more, and so no mark.
			return nil
		}
		return err
	}, nil
}
