// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "testing"

const (
	attachment = `
kind: VirtualMachineBlockDeviceAttachment
metadata: {name: data-to-web}
spec:
  virtualMachineName: web
  blockDeviceRef: {kind: VirtualDisk, name: data}
`
	operation = `
kind: VirtualMachineOperation
metadata: {name: restart-web}
spec:
  type: Restart
  virtualMachineName: web
`
)

func TestAttachmentCreations(t *testing.T) {
	checkCreations(t, attachment, map[string]creation{
		"disk":             {},
		"image":            {change: "spec: {blockDeviceRef: {kind: VirtualImage}}"},
		"cluster image":    {change: "spec: {blockDeviceRef: {kind: ClusterVirtualImage}}"},
		"another kind":     {"spec: {blockDeviceRef: {kind: Secret}}", []string{"spec.blockDeviceRef.kind", `"VirtualDisk"`}},
		"no kind":          {"spec: {blockDeviceRef: {kind: null}}", []string{"spec.blockDeviceRef.kind: Required value"}},
		"no name":          {"spec: {blockDeviceRef: {name: ''}}", []string{"spec.blockDeviceRef.name"}},
		"no machine":       {"spec: {virtualMachineName: null}", []string{"spec.virtualMachineName: Required value"}},
		"machine unnamed":  {"spec: {virtualMachineName: ''}", []string{"spec.virtualMachineName"}},
		"no block device":  {"spec: {blockDeviceRef: null}", []string{"spec.blockDeviceRef: Required value"}},
		"nothing whatever": {"spec: null", []string{"spec: Required value"}},
	})
}

func TestAttachmentUpdates(t *testing.T) {
	refusal := []string{"spec", "delete the attachment and make another"}
	checkUpdates(t, attachment, map[string]update{
		"labels":  {change: "metadata: {labels: {a: b}}"},
		"machine": {change: "spec: {virtualMachineName: db}", problems: refusal},
		"device":  {change: "spec: {blockDeviceRef: {name: other}}", problems: refusal},
		"status":  {status: "{phase: Attached, virtualMachineName: web, observedGeneration: 1}"},
	})
}

func TestOperationCreations(t *testing.T) {
	checkCreations(t, operation, map[string]creation{
		"restart":            {},
		"start":              {change: "spec: {type: Start}"},
		"start, not forced":  {change: "spec: {type: Start, force: false}"},
		"forced stop":        {change: "spec: {type: Stop, force: true}"},
		"migrate":            {change: "spec: {type: Migrate}"},
		"migrate to a node":  {change: "spec: {type: Migrate, force: true, migrate: {nodeSelector: {a: b}}}"},
		"evict":              {change: "spec: {type: Evict, force: false}"},
		"clone":              {change: "spec: {type: Clone, clone: {mode: DryRun, customization: {namePrefix: new-, nameSuffix: '-2'}}}"},
		"clone, two renamed": {change: "spec: {type: Clone, clone: {mode: Strict, nameReplacement: [{from: {name: a}, to: b}, {from: {kind: VirtualDisk, name: a}, to: c}]}}"},

		"no type":        {"spec: {type: null}", []string{"spec.type: Required value"}},
		"unknown type":   {"spec: {type: Reset}", []string{"spec.type", `"Restart", "Start", "Stop", "Migrate", "Evict", "Clone"`}},
		"snapshots":      {"spec: {type: Restore}", []string{"spec.type"}},
		"no machine":     {"spec: {virtualMachineName: ''}", []string{"spec.virtualMachineName"}},
		"forced start":   {"spec: {type: Start, force: true}", []string{"spec.force", "cannot be used when type is Start"}},
		"migrate a stop": {"spec: {type: Stop, migrate: {}}", []string{"spec.migrate", "only when type is Migrate"}},
		"clone missing":  {"spec: {type: Clone}", []string{"spec.clone", "must be set when type is Clone, and only then"}},
		"clone a stop":   {"spec: {type: Stop, clone: {mode: Strict, customization: {namePrefix: a}}}", []string{"spec.clone", "only then"}},
	})
}

func TestOperationRefusesClones(t *testing.T) {
	checkCreations(t, operation, map[string]creation{
		"of the same name": {
			"spec: {type: Clone, clone: {mode: Strict}}",
			[]string{"spec.clone.customization", "the copy cannot have the names of its source"},
		},
		"without a mode":  {"spec: {type: Clone, clone: {customization: {namePrefix: a}}}", []string{"spec.clone.mode: Required value"}},
		"of unknown mode": {"spec: {type: Clone, clone: {mode: Fast, customization: {namePrefix: a}}}", []string{"spec.clone.mode", `"DryRun", "Strict", "BestEffort"`}},
		"customized by nothing": {
			"spec: {type: Clone, clone: {mode: Strict, customization: {namePrefix: ''}}}",
			[]string{"spec.clone.customization.namePrefix", "namePrefix or nameSuffix must be set"},
		},
		"with a loud name": {
			"spec: {type: Clone, clone: {mode: Strict, customization: {nameSuffix: _A}}}",
			[]string{"spec.clone.customization", "lower-case letters, digits and dashes only"},
		},
		"with an ambiguous name": {
			"spec: {type: Clone, clone: {mode: Strict, nameReplacement: [{from: {kind: VirtualDisk, name: a}, to: b}, {from: {kind: VirtualDisk, name: a}, to: c}]}}",
			[]string{"spec.clone.nameReplacement", "must not name a source twice"},
		},
		"to an empty name": {
			"spec: {type: Clone, clone: {mode: Strict, nameReplacement: [{from: {name: a}, to: ''}]}}",
			[]string{"spec.clone.nameReplacement[0].to"},
		},
	})
}

func TestOperationUpdates(t *testing.T) {
	refusal := []string{"spec", "cannot be changed: make another operation"}
	checkUpdates(t, operation, map[string]update{
		"labels":  {change: "metadata: {labels: {a: b}}"},
		"type":    {change: "spec: {type: Stop}", problems: refusal},
		"machine": {change: "spec: {virtualMachineName: db}", problems: refusal},
		"force":   {change: "spec: {force: true}", problems: refusal},
		"status": {status: `
phase: Superseded
progress: 30%
observedGeneration: 1
resources: [{apiVersion: v1, kind: a, name: b, status: InProgress, message: c}]
`},
	})
}
