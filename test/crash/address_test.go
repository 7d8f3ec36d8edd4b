// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/crash"
)

func staticClaim(play *crash.Play, name string) *v1alpha2.VirtualMachineIPAddress {
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: play.Namespace, Name: name},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: play.Address(7)},
	}
}

// A lease that is deleted by hand comes back for its claim, and the address of a claim
// that is gone is taken by the next one of the namespace.
func TestAddressIsTakenAgain(t *testing.T) {
	w := newWorld(t)
	given := func(play *crash.Play) {
		claim := staticClaim(play, "first")
		play.Create(claim)
		play.Await("the address is held", is(play, claim, "Bound"))
	}
	w.run(given, func(play *crash.Play) {
		first, second := staticClaim(play, "first"), staticClaim(play, "second")
		lease := &v1alpha2.VirtualMachineIPAddressLease{
			ObjectMeta: metav1.ObjectMeta{Name: "ip-" + strings.ReplaceAll(play.Address(7), ".", "-")},
		}
		if err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(lease), lease); err != nil {
			play.Fatal(err)
		}
		lost := lease.UID
		play.Delete(lease)
		play.Reach("the lease is back", func() error { return isAnother(play, lease, lost) })
		play.Delete(first)
		play.Await("the first claim is gone", gone(play, first))
		play.Create(second)
		play.Reach("the second claim has the address", is(play, second, "Bound"))
	})
}

// isAnother waits for an object of the same name that is not the one that was there.
func isAnother(play *crash.Play, object client.Object, than types.UID) error {
	if err := play.Client.Get(play.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		return err
	}
	if object.GetUID() == than {
		return errors.New("the lease was not deleted yet")
	}
	return nil
}
