// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestChanged(t *testing.T) {
	class := func(label, annotation string) client.Object {
		return &v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"of": label}, Annotations: map[string]string{"note": annotation},
		}}
	}
	changed := Changed(func(object client.Object) string { return object.GetLabels()["of"] })
	if changed.Update(event.UpdateEvent{ObjectOld: class("a", "x"), ObjectNew: class("a", "y")}) {
		t.Error("what nobody looks at passes")
	}
	if !changed.Update(event.UpdateEvent{ObjectOld: class("a", "x"), ObjectNew: class("b", "x")}) {
		t.Error("a changed fact does not pass")
	}
	if !changed.Create(event.CreateEvent{Object: class("a", "x")}) || !changed.Delete(event.DeleteEvent{Object: class("a", "x")}) {
		t.Error("what comes or goes does not pass")
	}
}
