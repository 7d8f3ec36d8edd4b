// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"cmp"
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/ipam"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

var (
	attachmentCommon = newCommon(v1alpha2.VirtualMachineBlockDeviceAttachmentKind, "virtualmachineblockdeviceattachment", namespaced)
	attachmentInfo   = newMetric("virtualmachineblockdeviceattachment_info",
		"Which device a VirtualMachineBlockDeviceAttachment plugs into which machine. The value is 1.",
		namespaced, labelUID, "virtualmachine", "device_kind", "device")

	operationCommon = newCommon(v1alpha2.VirtualMachineOperationKind, "virtualmachineoperation", namespaced)
	operationInfo   = newMetric("virtualmachineoperation_info", "What a VirtualMachineOperation does to which machine. The value is 1.",
		namespaced, labelUID, "virtualmachine", "type")
	operationCreated  = newMetric("virtualmachineoperation_created_timestamp_seconds", "When a VirtualMachineOperation was created.", namespaced)
	operationStarted  = newMetric("virtualmachineoperation_started_timestamp_seconds", "When the order of a VirtualMachineOperation reached the machine.", namespaced)
	operationFinished = newMetric("virtualmachineoperation_finished_timestamp_seconds", "When a VirtualMachineOperation ended, well or not.", namespaced)
	operationProgress = newMetric("virtualmachineoperation_progress_ratio", "How far a migration is, from 0 to 1.", namespaced)

	classCommon = newCommon(v1alpha2.VirtualMachineClassKind, "virtualmachineclass", clusterwide)
	classNode   = newMetric("virtualmachineclass_available_node", "A node that machines of a VirtualMachineClass can run on. The value is 1.", clusterwide, labelNode)
	classNodes  = newMetric("virtualmachineclass_available_nodes", "How many nodes machines of a VirtualMachineClass can run on.", clusterwide)

	addressCommon = newCommon(v1alpha2.VirtualMachineIPAddressKind, "virtualmachineipaddress", namespaced)
	addressInfo   = newMetric("virtualmachineipaddress_info", "Which address a VirtualMachineIPAddress holds, and for which machine. The value is 1.",
		namespaced, labelUID, "type", "ip_address", "virtualmachine")

	leaseCommon = newCommon(v1alpha2.VirtualMachineIPAddressLeaseKind, "virtualmachineipaddresslease", clusterwide)
	leaseInfo   = newMetric("virtualmachineipaddresslease_info", "Which claim holds the address of a VirtualMachineIPAddressLease. The value is 1.",
		clusterwide, labelUID, "ip_address", "claim_namespace", "claim")

	softwareEmulation = newMetric("software_emulation", "1 if guests run without the help of the nodes' processors, as the module's setting softwareEmulation says, else 0.", nil)
	nodeEngine        = newMetric("node_engine_ready", "1 if the engine can start guests on a node, else 0.", []string{labelNode})
	nodeKVM           = newMetric("node_kvm_devices", "How many guests can use the processor of a node; 0 if it cannot run guests.", []string{labelNode})
	nodeUnschedulable = newMetric("node_unschedulable", "1 if a node is cordoned, else 0.", []string{labelNode})
)

func attachments(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineBlockDeviceAttachmentList
	return each(ctx, reader, &list, &list.Items, func(a *v1alpha2.VirtualMachineBlockDeviceAttachment) {
		attachmentCommon.put(out, a, string(a.Status.Phase), a.Status.Conditions)
		device := a.Spec.BlockDeviceRef
		out.put(attachmentInfo, 1, a.Namespace, a.Name, string(a.UID), a.Spec.VirtualMachineName, string(device.Kind), device.Name)
	})
}

func operations(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineOperationList
	return each(ctx, reader, &list, &list.Items, func(o *v1alpha2.VirtualMachineOperation) {
		operationCommon.put(out, o, string(o.Status.Phase), o.Status.Conditions)
		name := known(o.Namespace, o.Name)
		out.put(operationInfo, 1, append(name, string(o.UID), o.Spec.VirtualMachineName, string(o.Spec.Type))...)
		out.putTime(operationCreated, &o.CreationTimestamp, name...)
		out.putTime(operationStarted, changed(o.Status.Conditions, v1alpha2.ConditionSignalSent), name...)
		// Prometheus takes nothing at all from a program that tells the same thing twice.
		ended := cmp.Or(changed(o.Status.Conditions, v1alpha2.ConditionCompleted), changed(o.Status.Conditions, v1alpha2.ConditionStalled))
		out.putTime(operationFinished, ended, name...)
		putProgress(out, operationProgress, o.Status.Progress, name)
	})
}

func classes(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineClassList
	return each(ctx, reader, &list, &list.Items, func(c *v1alpha2.VirtualMachineClass) {
		classCommon.put(out, c, string(c.Status.Phase), c.Status.Conditions)
		for _, node := range c.Status.AvailableNodes {
			out.put(classNode, 1, c.Name, node)
		}
		out.put(classNodes, float64(len(c.Status.AvailableNodes)), c.Name)
	})
}

func addresses(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineIPAddressList
	return each(ctx, reader, &list, &list.Items, func(a *v1alpha2.VirtualMachineIPAddress) {
		addressCommon.put(out, a, string(a.Status.Phase), a.Status.Conditions)
		out.put(addressInfo, 1, a.Namespace, a.Name, string(a.UID), string(a.Spec.Type), a.Status.Address, a.Status.VirtualMachineName)
	})
}

func leases(ctx context.Context, reader client.Reader, out sink) error {
	var list v1alpha2.VirtualMachineIPAddressLeaseList
	return each(ctx, reader, &list, &list.Items, func(l *v1alpha2.VirtualMachineIPAddressLease) {
		leaseCommon.put(out, l, string(l.Status.Phase), l.Status.Conditions)
		var claim v1alpha2.VirtualMachineIPAddressRef
		if l.Spec.VirtualMachineIPAddressRef != nil {
			claim = *l.Spec.VirtualMachineIPAddressRef
		}
		address := ""
		if parsed, err := ipam.ParseLeaseName(l.Name); err == nil {
			address = parsed.String()
		}
		out.put(leaseInfo, 1, l.Name, string(l.UID), address, claim.Namespace, claim.Name)
	})
}

// nodes tells of nodes that the engine has labelled: it does not run on others.
func nodes(ctx context.Context, reader client.Reader, out sink) error {
	var list corev1.NodeList
	return each(ctx, reader, &list, &list.Items, func(node *corev1.Node) {
		schedulable, labelled := node.Labels[machineclass.LabelSchedulable]
		if !labelled {
			return
		}
		out.put(nodeEngine, number(schedulable == machineclass.Yes), node.Name)
		devices := node.Status.Allocatable[machineclass.ResourceKVM]
		out.put(nodeKVM, devices.AsApproximateFloat64(), node.Name)
		out.put(nodeUnschedulable, number(node.Spec.Unschedulable), node.Name)
	})
}
