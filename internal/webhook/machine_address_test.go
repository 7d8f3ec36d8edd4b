// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// A claim that another machine uses can't be named, unless that machine is about to
// let go of it.
func TestMachineNamesAClaimInUse(t *testing.T) {
	const uid = "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"
	claim := func(name, user string) client.Object {
		return &v1alpha2.VirtualMachineIPAddress{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
			Status:     v1alpha2.VirtualMachineIPAddressStatus{Address: "10.66.10.5", VirtualMachineName: user},
		}
	}
	machine := func(name, claim string) *v1alpha2.VirtualMachine {
		return testMachine(func(m *v1alpha2.VirtualMachine) {
			m.Name, m.UID, m.Spec.VirtualMachineIPAddressName = name, uid, claim
		})
	}
	deleted := machine("db", "fixed")
	deleted.DeletionTimestamp, deleted.Finalizers = ptr.To(metav1.Now()), []string{"x"}
	refusal := func(claim string) []string {
		return []string{`spec.virtualMachineIPAddressName: Invalid value: "` + claim + `": VirtualMachineIPAddress ` + claim +
			` is used by VirtualMachine db: name another one, or first delete that machine or give it another address`}
	}
	tests := []struct {
		name    string
		objects []client.Object
		before  *v1alpha2.VirtualMachine
		claim   string
		want    []string
	}{
		{name: "free", objects: []client.Object{claim("fixed", "")}, claim: "fixed"},
		{name: "not there yet", claim: "fixed"},
		{name: "its own", objects: []client.Object{claim("fixed", "web")}, claim: "fixed"},
		{name: "of another one", objects: []client.Object{claim("fixed", "db"), machine("db", "fixed")}, claim: "fixed", want: refusal("fixed")},
		{name: "made for another one", objects: []client.Object{claim("db-7d3d1557", "db"), machine("db", "")}, claim: "db-7d3d1557", want: refusal("db-7d3d1557")},
		{name: "of one that is gone", objects: []client.Object{claim("fixed", "db")}, claim: "fixed"},
		{name: "of one that goes", objects: []client.Object{claim("fixed", "db"), deleted}, claim: "fixed"},
		{name: "of one that wants another", objects: []client.Object{claim("fixed", "db"), machine("db", "other")}, claim: "fixed"},
		{name: "of one that wants its own", objects: []client.Object{claim("fixed", "db"), machine("db", "")}, claim: "fixed"},
		{name: "changed to one of another", objects: []client.Object{claim("fixed", "db"), machine("db", "fixed")}, before: machine("web", ""), claim: "fixed", want: refusal("fixed")},
		{name: "as it was", objects: []client.Object{claim("fixed", "db"), machine("db", "fixed")}, before: machine("web", "fixed"), claim: "fixed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &machineValidator{reader: testReader(t, append(worldObjects(), test.objects...)...), pool: testPool(t, "10.66.10.0/24")}
			after := machine("web", test.claim)
			after.Labels = map[string]string{"changed": "yes"}
			var err error
			if test.before != nil {
				_, err = v.ValidateUpdate(context.Background(), test.before, after)
			} else {
				_, err = v.ValidateCreate(context.Background(), after)
			}
			expectAnswer(t, err, test.want)
		})
	}
}
