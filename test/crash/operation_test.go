// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/crash"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

func newOperation(play *crash.Play, kind v1alpha2.OperationType) *v1alpha2.VirtualMachineOperation {
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: "operation"},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"},
	}
}

// completed waits until the operation has come to its good end.
func completed(play *crash.Play, operation *v1alpha2.VirtualMachineOperation) error {
	if err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(operation), operation); err != nil {
		return err
	}
	if operation.Status.Phase != v1alpha2.OperationCompleted {
		return fmt.Errorf("the operation is %s: %+v", operation.Status.Phase, operation.Status.Conditions)
	}
	return nil
}

func guestOf(play *crash.Play) (*virtv1.VirtualMachineInstance, error) {
	guest := &virtv1.VirtualMachineInstance{}
	return guest, play.Client.Get(play.Context(), client.ObjectKey{Namespace: play.Namespace, Name: "web"}, guest)
}

// A restart makes one new guest: not none, and not two.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.run(w.withGuest, func(play *crash.Play) {
		before, err := guestOf(play)
		if err != nil {
			play.Fatal(err)
		}
		operation, machine := newOperation(play, "Restart"), newMachine(play)
		play.Create(operation)
		play.Reach("another guest runs", func() error {
			after, err := guestOf(play)
			if err == nil && after.UID == before.UID {
				err = errors.New("it is still the same guest")
			}
			return errors.Join(err, completed(play, operation), is(play, machine, "Running")())
		})
		second, err := guestOf(play)
		if err != nil {
			play.Fatal(err)
		}
		play.Delete(operation)
		play.Reach("the operation is gone", gone(play, operation))
		if third, err := guestOf(play); err != nil || third.UID != second.UID {
			play.Errorf("the machine was restarted twice: %v", err)
		}
	})
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	w.run(w.withGuest, func(play *crash.Play) {
		operation, machine := newOperation(play, "Stop"), newMachine(play)
		play.Create(operation)
		play.Reach("the machine is off", func() error {
			return errors.Join(completed(play, operation), is(play, machine, "Stopped")())
		})
	})
}

// A migration moves the guest once.
func TestMigrate(t *testing.T) {
	w := newWorld(t)
	w.run(w.withGuest, func(play *crash.Play) {
		operation := newOperation(play, "Migrate")
		play.Create(operation)
		play.Reach("the guest is on the other node", func() error {
			guest, err := guestOf(play)
			if err != nil {
				return err
			}
			return errors.Join(completed(play, operation), expect("node", guest.Status.NodeName, engine.OtherNode))
		})
	})
}
