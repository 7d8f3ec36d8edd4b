// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"os"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/audit"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// The paths under which the manager's webhook server answers.
const (
	PathVirtualMachine          = "/validate-virtualization-deckhouse-io-v1alpha2-virtualmachine"
	PathGuestGrowth             = "/mutate-kubevirt-io-v1-virtualmachineinstance"
	PathVirtualMachineClass     = "/validate-virtualization-deckhouse-io-v1alpha2-virtualmachineclass"
	PathAttachment              = "/validate-virtualization-deckhouse-io-v1alpha2-virtualmachineblockdeviceattachment"
	PathVirtualMachineIPAddress = "/validate-virtualization-deckhouse-io-v1alpha2-virtualmachineipaddress"
	PathAudit                   = "/audit"
	PathVirtualMachineOperation = "/validate-virtualization-deckhouse-io-v1alpha2-virtualmachineoperation"
)

// Options configure the handlers.
type Options struct {
	// Pool is where machines' addresses come from.
	Pool ipam.Pool
}

// Setup registers the handlers with the manager's webhook server.
func Setup(mgr ctrl.Manager, opts Options) error {
	mgr.GetWebhookServer().Register(PathFinalizer, &webhook.Admission{Handler: finalizerAdder{}})
	// The chart sends requests there only if the settings ask for it.
	mgr.GetWebhookServer().Register(PathAudit, &admission.Webhook{
		Handler: audit.Admission{Backend: audit.NewBackend(os.Stdout), Clock: clock.RealClock{}},
	})
	mgr.GetWebhookServer().Register(PathGuestGrowth, &admission.Webhook{Handler: growthHandler{}})
	validators := []struct {
		path      string
		kind      client.Object
		validator admission.CustomValidator
	}{
		{PathVirtualMachine, &v1alpha2.VirtualMachine{}, &machineValidator{reader: mgr.GetClient(), pool: opts.Pool}},
		{PathVirtualMachineClass, &v1alpha2.VirtualMachineClass{}, &classValidator{reader: mgr.GetClient()}},
		{PathVirtualMachineOperation, &v1alpha2.VirtualMachineOperation{},
			&operationValidator{reader: mgr.GetClient(), direct: mgr.GetAPIReader()}},
		{PathAttachment, &v1alpha2.VirtualMachineBlockDeviceAttachment{}, &attachmentValidator{reader: mgr.GetClient()}},
		{PathVirtualMachineIPAddress, &v1alpha2.VirtualMachineIPAddress{}, &addressValidator{reader: mgr.GetClient(), pool: opts.Pool}},
	}
	for _, v := range validators {
		err := ctrl.NewWebhookManagedBy(mgr).For(v.kind).WithValidator(v.validator).WithValidatorCustomPath(v.path).Complete()
		if err != nil {
			return err
		}
	}
	return nil
}

// invalid turns what was found wrong into the answer of the API server; nil when
// nothing was.
func invalid(kind string, object client.Object, problems field.ErrorList) error {
	if len(problems) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha2.Kind(kind), object.GetName(), problems)
}
