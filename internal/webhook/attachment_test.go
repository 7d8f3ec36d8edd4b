// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func attaches(name, machine string, kind v1alpha2.BlockDeviceKind, device string) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	return &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name},
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: machine, BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: kind, Name: device},
		},
	}
}

// disks gives a machine so many more disks.
func disks(count int) func(*v1alpha2.VirtualMachine) {
	return func(m *v1alpha2.VirtualMachine) {
		for i := range count {
			m.Spec.BlockDeviceRefs = append(m.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: fmt.Sprintf("more-%d", i)})
		}
	}
}

func TestAttachmentsAtCreation(t *testing.T) {
	full := testMachine(disks(14))
	full.Name = "full"
	bare := testMachine(func(m *v1alpha2.VirtualMachine) { m.Spec.EnableParavirtualization = ptr.To(false) })
	bare.Name = "bare"
	elsewhere := attaches("elsewhere", "web", "VirtualDisk", "new")
	elsewhere.Namespace = "other"
	leaving := attaches("leaving", "web", "VirtualDisk", "leaving")
	leaving.DeletionTimestamp, leaving.Finalizers = ptr.To(metav1.Now()), []string{"example.org/held"}
	validator := &attachmentValidator{reader: testReader(t, testMachine(), full, bare, elsewhere, leaving,
		attaches("first", "web", "VirtualDisk", "data"), attaches("of-full", "full", "VirtualDisk", "last"))}
	tests := []struct {
		name           string
		attachment     *v1alpha2.VirtualMachineBlockDeviceAttachment
		refused, warns string
	}{
		{name: "a new device", attachment: attaches("a", "web", "VirtualDisk", "new")},
		{name: "an image of a disk's name", attachment: attaches("a", "web", "VirtualImage", "data")},
		{name: "on its way out", attachment: attaches("a", "web", "VirtualDisk", "leaving")},
		{
			name: "attached already", attachment: attaches("a", "web", "VirtualDisk", "data"),
			refused: "spec.blockDeviceRef: Forbidden: VirtualMachineBlockDeviceAttachment first attaches VirtualDisk data",
		},
		{
			name: "in the machine's spec", attachment: attaches("a", "web", "VirtualDisk", "root"),
			refused: "spec.blockDeviceRef: Forbidden: the machine has VirtualDisk root already: its spec.blockDeviceRefs[0]",
		},
		{
			name: "one too many", attachment: attaches("a", "full", "VirtualDisk", "new"),
			refused: "spec.virtualMachineName: Forbidden: the machine has 16 block devices",
		},
		{name: "before the machine", attachment: attaches("a", "later", "VirtualDisk", "new"), warns: "does not exist yet"},
		{name: "a guest without the driver", attachment: attaches("a", "bare", "VirtualDisk", "new"), warns: "virtio-scsi"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			warnings, err := validator.ValidateCreate(context.Background(), test.attachment)
			if (err == nil) != (test.refused == "") || (err != nil && !strings.Contains(err.Error(), test.refused)) {
				t.Errorf("%v", err)
			}
			if got := strings.Join(warnings, " "); !strings.Contains(got, test.warns) || (got == "") != (test.warns == "") {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

func TestAttachmentsThatAreNotJudged(t *testing.T) {
	validator := &attachmentValidator{reader: testReader(t)}
	if _, err := validator.ValidateCreate(context.Background(), testMachine()); err == nil {
		t.Error("took a machine for an attachment")
	}
	if _, err := validator.ValidateUpdate(context.Background(), nil, nil); err != nil {
		t.Error(err)
	}
	if _, err := validator.ValidateDelete(context.Background(), nil); err != nil {
		t.Error(err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	validator.reader = fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.New("the cache is away")
		},
	}).Build()
	if _, err := validator.ValidateCreate(context.Background(), attaches("a", "web", "VirtualDisk", "data")); err == nil ||
		!strings.Contains(err.Error(), "listing the attachments of VirtualMachine team/web: the cache is away") {
		t.Errorf("%v", err)
	}
}

// A machine's spec cannot name what an attachment brings; what stands there already
// is not found fault with.
func TestMachinesBesideTheirAttachments(t *testing.T) {
	data := v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "data"}
	with := func(refs ...v1alpha2.BlockDeviceRef) func(*v1alpha2.VirtualMachine) {
		return func(m *v1alpha2.VirtualMachine) { m.Spec.BlockDeviceRefs = append(m.Spec.BlockDeviceRefs, refs...) }
	}
	one := machineFacts{attachments: []v1alpha2.VirtualMachineBlockDeviceAttachment{*attaches("first", "web", "VirtualDisk", "data")}}
	tests := []struct {
		name          string
		before, after *v1alpha2.VirtualMachine
		facts         machineFacts
		refused       string
	}{
		{name: "no attachments", before: testMachine(), after: testMachine(with(data))},
		{
			name: "attached already", before: testMachine(), after: testMachine(with(data)), facts: one,
			refused: "spec.blockDeviceRefs[1]: Forbidden: VirtualMachineBlockDeviceAttachment first attaches VirtualDisk data already: delete it first",
		},
		{name: "a new machine", after: testMachine(with(data)), facts: one, refused: "attaches VirtualDisk data already"},
		{name: "named all along", before: testMachine(with(data)), after: testMachine(with(data), disks(1)), facts: one},
		{name: "the last place", before: testMachine(), after: testMachine(disks(14)), facts: one},
		{
			name: "one too many", before: testMachine(), after: testMachine(disks(15)), facts: one,
			refused: "spec.blockDeviceRefs: Forbidden: with 1 attachments the machine would have 17 block devices, and at most 16",
		},
		{name: "too many, but not more than before", before: testMachine(disks(15)), after: testMachine(disks(15)), facts: one},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ruleAttachments(test.before, test.after, test.facts).ToAggregate()
			if (got == nil) != (test.refused == "") || (got != nil && !strings.Contains(got.Error(), test.refused)) {
				t.Errorf("%v", got)
			}
		})
	}
}
