// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
)

// A machine that is off keeps what it was rendered with, and an order to start goes
// straight to the engine. So whatever took a disk of the machine since has to be looked
// for when the order is given.

// observeWriters finds the other machines that have the disks of this one, when it may
// be about to be started without a guest of its own that has them.
func (r *reconciler) observeWriters(ctx context.Context, o *Observed) error {
	if !mayStart(*o) || o.Machine == nil || o.Engine == nil || o.guestActive() || operations.IsFinished(o.Operation) || o.signalSent() {
		return nil
	}
	for _, claim := range writers.Claims(o.Engine) {
		writer, err := r.writers.Writer(ctx, client.ObjectKeyFromObject(o.Machine), claim)
		if err != nil {
			return err
		}
		if writer != "" {
			if o.Taken == nil {
				o.Taken = map[string]string{}
			}
			o.Taken[claim] = writer
		}
	}
	return nil
}

// mayStart tells that the operation makes the engine start a guest.
func mayStart(o Observed) bool {
	return o.Operation.Spec.Type == v1alpha2.OperationStart || o.Operation.Spec.Type == v1alpha2.OperationRestart
}

// judgeDisks says who has a disk that the machine would be started with; empty when
// nobody has.
func judgeDisks(o Observed) string {
	if len(o.Taken) == 0 {
		return ""
	}
	others := slices.Compact(slices.Sorted(maps.Values(o.Taken)))
	return fmt.Sprintf("%s cannot be started with its block devices: VirtualMachine %s/%s has one of them: stop that machine or use another disk",
		o.Machine.Name, o.Machine.Namespace, strings.Join(others, ", "))
}

// claimsToTake are those that the machine gets by the order, if it is one to start.
func claimsToTake(o Observed, decided decision) []string {
	if decided.order == nil || o.guestActive() || !slices.ContainsFunc(decided.order.requests, func(request virtv1.VirtualMachineStateChangeRequest) bool {
		return request.Action == virtv1.StartRequest
	}) {
		return nil
	}
	return writers.Claims(o.Engine)
}
