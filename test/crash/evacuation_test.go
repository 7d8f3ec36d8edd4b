// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/crash"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

// cordon closes the node that all guests start on, until the test ends.
func (w *world) cordon() {
	w.t.Helper()
	set := func(cordoned bool) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: engine.Node}}
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, cordoned))
		if err := w.client.Patch(context.Background(), node, patch); err != nil {
			w.t.Error(err)
		}
	}
	set(true)
	w.t.Cleanup(func() { set(false) })
}

// evict asks the guest to leave its node, as a drain does.
func (w *world) evict(play *crash.Play) {
	play.Helper()
	if err := w.engine.Evict(play.Context(), client.ObjectKey{Namespace: play.Namespace, Name: "web"}); err != nil {
		play.Fatal(err)
	}
}

// evacuation is the one operation that was ordered for the guest.
func evacuation(play *crash.Play) (*v1alpha2.VirtualMachineOperation, error) {
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := play.Client.List(play.Context(), list, client.InNamespace(play.Namespace)); err != nil {
		return nil, err
	}
	if len(list.Items) != 1 {
		return nil, fmt.Errorf("%d operations instead of one", len(list.Items))
	}
	return &list.Items[0], nil
}

// A guest leaves its node when it is drained, and only once.
func TestEvacuation(t *testing.T) {
	w := newWorld(t)
	w.cordon()
	w.run(w.withGuest, func(play *crash.Play) {
		w.evict(play)
		play.Reach("the guest is on the other node", func() error {
			operation, err := evacuation(play)
			if err != nil {
				return err
			}
			guest, err := guestOf(play)
			if err != nil {
				return err
			}
			return errors.Join(completed(play, operation), expect("node", guest.Status.NodeName, engine.OtherNode),
				expect("mark", guest.Status.EvacuationNodeName, ""), is(play, newMachine(play), "Running")())
		})
	})
}

// Deleting the operation lets the guest stay, and no other one is ordered.
func TestEvacuationIsCalledOff(t *testing.T) {
	w := newWorld(t)
	w.cordon()
	w.engine.HoldMigrations(virtv1.MigrationRunning)
	w.run(func(play *crash.Play) {
		w.withGuest(play)
		w.evict(play)
		play.Await("the guest is being moved", is(play, newMachine(play), "Migrating"))
	}, func(play *crash.Play) {
		operation, err := evacuation(play)
		if err != nil {
			play.Fatal(err)
		}
		play.Delete(operation)
		play.Reach("the guest stays", func() error {
			guest, err := guestOf(play)
			if err != nil {
				return err
			}
			return errors.Join(gone(play, operation)(), expect("node", guest.Status.NodeName, engine.Node),
				expect("mark", guest.Status.EvacuationNodeName, ""), is(play, newMachine(play), "Running")())
		})
	})
}
