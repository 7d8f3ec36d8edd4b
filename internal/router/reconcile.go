// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// ciliumDevice leads to all pods of a node under Cilium.
const ciliumDevice = "cilium_host"

// ciliumNode has a node's address inside Cilium's network.
var ciliumNode = schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNode"}

// kernel is what the reconciler needs of Kernel.
type kernel interface {
	Routes() ([]Route, error)
	Set(Route) error
	Remove(Route) error
	SetRules([]netip.Prefix) error
	Resolve(netip.Addr) (Hop, error)
	HasDevice(name string) (bool, error)
}

// Reconciler makes the kernel's table equal to what machines and nodes ask for.
type Reconciler struct {
	Client client.Client
	Kernel kernel
	Log    *slog.Logger
	Clock  clock.PassiveClock
	// Node is the name of the node this runs on.
	Node string
	// Ranges are the administrator's virtualMachineCIDRs.
	Ranges   []netip.Prefix
	Reporter *Reporter
	Metrics  *Metrics
	// Moves measures migrations of guests that leave this node.
	Moves *Moves

	// watchCilium begins to watch CiliumNodes; false when they are not served.
	watchCilium func() (bool, error)
}

// everything is the one key: each change leads to the same full comparison.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "routes"}}

// facts are what one look found.
type facts struct {
	input   Input
	network Network
	moves   []Move
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (ctrl.Result, error) {
	found, err := r.observe(ctx)
	if err != nil {
		r.Metrics.failed(stepObserve)
		return ctrl.Result{}, err
	}
	want := Want(found.input)
	refused, err := r.apply(want)
	want.Unrouted = append(want.Unrouted, refused...)
	r.Metrics.Reconciled(r.Clock.Now(), found.network, want, err)
	r.Moves.Follow(found.moves)
	if reportErr := r.Reporter.Report(ctx, routesCondition(found.network, want)); reportErr != nil {
		r.Metrics.failed(stepReport)
		err = errors.Join(err, reportErr)
	}
	return ctrl.Result{}, err
}

func (r *Reconciler) observe(ctx context.Context) (facts, error) {
	found := facts{input: Input{Node: r.Node, Ranges: r.Ranges}, network: NetworkNodeAddresses}
	if err := r.observeMachines(ctx, &found); err != nil {
		return found, err
	}
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return found, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		found.input.Reserved = append(found.input.Reserved, reserved(&nodes.Items[i])...)
	}
	cilium, err := r.onCilium()
	if err != nil {
		return found, err
	}
	if !cilium {
		found.input.Ways, err = r.ways(found.input.Machines, nodeAddresses(nodes.Items), false)
		return found, err
	}
	found.network, found.input.LocalDevice = NetworkCilium, ciliumDevice
	addresses, err := r.ciliumAddresses(ctx)
	if err != nil {
		return found, err
	}
	found.input.Ways, err = r.ways(found.input.Machines, addresses, true)
	return found, err
}

// observeMachines joins those who own addresses with the guests that run.
func (r *Reconciler) observeMachines(ctx context.Context, found *facts) error {
	var machines v1alpha2.VirtualMachineList
	if err := r.Client.List(ctx, &machines, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing machines: %w", err)
	}
	var guests virtv1.VirtualMachineInstanceList
	if err := r.Client.List(ctx, &guests, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing guests: %w", err)
	}
	running := make(map[types.NamespacedName]*virtv1.VirtualMachineInstance, len(guests.Items))
	for i := range guests.Items {
		running[client.ObjectKeyFromObject(&guests.Items[i])] = &guests.Items[i]
	}
	for i := range machines.Items {
		key := client.ObjectKeyFromObject(&machines.Items[i])
		address, err := netip.ParseAddr(machines.Items[i].Status.IPAddress)
		guest := running[key]
		if err != nil || guest == nil || place(guest) == "" {
			continue
		}
		machine := Machine{
			Name: key.String(), Created: machines.Items[i].CreationTimestamp.Time, Address: address, Node: place(guest),
		}
		found.input.Machines = append(found.input.Machines, machine)
		found.moves = append(found.moves, Move{
			Guest: guest.UID, Machine: machine.Name, Address: address, UnderWay: moving(guest), Here: machine.Node == r.Node,
		})
	}
	return nil
}

// onCilium detects Cilium by its device; what the device is without Cilium's API is
// not known, so then nodes are reached by their own addresses.
func (r *Reconciler) onCilium() (bool, error) {
	found, err := r.Kernel.HasDevice(ciliumDevice)
	if err != nil || !found {
		return false, err
	}
	return r.watchCilium()
}

func nodeAddresses(nodes []corev1.Node) map[NodeKey]netip.Addr {
	out := map[NodeKey]netip.Addr{}
	for i := range nodes {
		for _, ipv6 := range []bool{false, true} {
			if address := nodeAddress(&nodes[i], ipv6); address.IsValid() {
				out[NodeKey{Name: nodes[i].Name, IPv6: ipv6}] = address
			}
		}
	}
	return out
}

func (r *Reconciler) ciliumAddresses(ctx context.Context) (map[NodeKey]netip.Addr, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(ciliumNode.GroupVersion().WithKind(ciliumNode.Kind + "List"))
	if err := r.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing CiliumNodes: %w", err)
	}
	out := map[NodeKey]netip.Addr{}
	for i := range list.Items {
		for _, ipv6 := range []bool{false, true} {
			if address := ciliumAddress(&list.Items[i], ipv6); address.IsValid() {
				out[NodeKey{Name: list.Items[i].GetName(), IPv6: ipv6}] = address
			}
		}
	}
	return out, nil
}

// ways asks the kernel how it gets to each other node that has machines. Under
// Cilium the kernel's way to a node's internal address is that of its pods; without
// it, the node itself has to be the gateway.
func (r *Reconciler) ways(machines []Machine, addresses map[NodeKey]netip.Addr, cilium bool) (map[NodeKey]Way, error) {
	out := map[NodeKey]Way{}
	for _, machine := range machines {
		key := NodeKey{Name: machine.Node, IPv6: machine.Address.Is6()}
		address, known := addresses[key]
		if _, done := out[key]; done || !known || machine.Node == r.Node {
			continue
		}
		hop, err := r.Kernel.Resolve(address)
		switch {
		case errors.Is(err, errUnreachable):
			out[key] = Way{Problem: ReasonNodeUnreachable}
		case err != nil:
			return nil, err
		case cilium:
			out[key] = Way{Hop: hop}
		case hop.Via.IsValid():
			out[key] = Way{Problem: ReasonNodeNotAdjacent}
		default:
			out[key] = Way{Hop: Hop{Via: address, Device: hop.Device}}
		}
	}
	return out, nil
}

// apply goes on after a failure: a node that cannot be reached must not take the
// routes to all others with it. It returns the machines whose route was refused.
func (r *Reconciler) apply(want Wanted) ([]Unrouted, error) {
	have, err := r.Kernel.Routes()
	if err != nil {
		r.Metrics.failed(stepDump)
		return nil, err
	}
	var (
		failures []error
		refused  []Unrouted
	)
	set, remove := Diff(have, want.Routes)
	for _, route := range set {
		if err := r.Kernel.Set(route); err != nil {
			r.Metrics.failed(stepSet)
			failures = append(failures, err)
			refused = append(refused, Unrouted{Machine: Machine{Address: route.Prefix.Addr()}, Reason: ReasonKernelRefused})
			continue
		}
		r.Metrics.changed(stepSet)
		r.Log.Info("setting a route", "prefix", route.Prefix.String(), "kind", string(route.Kind), "hop", route.Hop.String())
	}
	// The rules come after the routes: at the start they would send traffic into an
	// empty table.
	if err := r.Kernel.SetRules(want.Ranges); err != nil {
		r.Metrics.failed(stepRules)
		failures = append(failures, err)
	}
	for _, route := range remove {
		if err := r.Kernel.Remove(route); err != nil {
			r.Metrics.failed(stepRemove)
			failures = append(failures, err)
			continue
		}
		r.Metrics.changed(stepRemove)
		r.Log.Info("removing a route", "prefix", route.Prefix.String(), "kind", string(route.Kind))
	}
	return refused, errors.Join(failures...)
}
