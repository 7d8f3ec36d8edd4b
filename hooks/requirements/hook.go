// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package requirements tells what the cluster lacks for virtual machines, where administrators look: a condition of the
// Module with what to do, a label and an annotation of each node, and a metric for alerts.
//
// Nothing is stopped by it. A cluster that lacks one thing is good for much else: guests without hardware virtualization
// can be emulated, and guests without shared storage run where they are. What does stop the module, versions and modules
// of the platform, is in module.yaml, which Deckhouse checks.
package requirements

import (
	"context"
	"fmt"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

// Names of the snapshots.
const (
	nodes   = "nodes"
	classes = "classes"
	module  = "module"
)

// metric says of each requirement, named by a label, whether it is met.
const metric = "d8_virtualization_requirement_met"

// nodeFilter keeps what the decision needs, so that heartbeats start nothing. An agent of the engine that ends takes its
// devices back, which leaves none of them, healthy or not: that says nothing about the processor.
const nodeFilter = `{"name": .metadata.name, "os": .status.nodeInfo.operatingSystem, "kernel": .status.nodeInfo.kernelVersion, ` +
	`"kvm": (if .status.capacity["devices.kubevirt.io/kvm"] == "0" then null else .status.allocatable["devices.kubevirt.io/kvm"] end), ` +
	`"network": ([.status.conditions[]? | select(.type == "NetworkUnavailable") | .reason][0]), ` +
	`"label": (.metadata.labels // {})["` + settings.NodeKVMLabel + `"], ` +
	`"note": (.metadata.annotations // {})["` + settings.NodeNoteAnnotation + `"]}`

// Config subscribes to what the requirements are about. Storage profiles are looked at from time to time: their kind is
// not there before the engine is, and a subscription would wait for it and hold up the module.
var Config = &pkg.HookConfig{
	Queue:       settings.Queue,
	OnAfterHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
	Schedule:    []pkg.ScheduleConfig{{Name: "storage", Crontab: "*/5 * * * *"}},
	Kubernetes: []pkg.KubernetesConfig{
		subscription(nodes, "v1", "Node", nodeFilter),
		subscription(classes, "storage.k8s.io/v1", "StorageClass",
			`{"name": .metadata.name, "default": (.metadata.annotations // {})["storageclass.kubernetes.io/is-default-class"]}`),
		named(subscription(module, "deckhouse.io/v1alpha1", "Module",
			`{"name": .metadata.name, "condition": ([.status.conditions[]? | select(.type == "`+ConditionType+`")][0])}`), settings.Module),
	},
}

func subscription(name, apiVersion, kind, filter string) pkg.KubernetesConfig {
	return pkg.KubernetesConfig{
		Name: name, APIVersion: apiVersion, Kind: kind, JqFilter: filter, ExecuteHookOnSynchronization: settings.No(),
	}
}

func named(config pkg.KubernetesConfig, name string) pkg.KubernetesConfig {
	config.NameSelector = settings.Named(name)
	return config
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle writes what has changed, and nothing when nothing has.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	cluster, err := observe(ctx, input)
	if err != nil {
		return err
	}
	verdicts := judge(cluster)
	for _, each := range verdicts {
		value := 0.0
		if each.problem == "" {
			value = 1
		}
		input.MetricsCollector.Set(metric, value, map[string]string{"requirement": each.requirement})
	}
	for _, each := range cluster.Nodes {
		if patch := noteFor(each, cluster.Emulated); patch != nil {
			input.PatchCollector.PatchWithMerge(patch, "v1", "Node", "", each.Name, objectpatch.WithIgnoreMissingObject(true))
		}
	}
	return tell(input, verdicts)
}

func observe(ctx context.Context, input *pkg.HookInput) (Cluster, error) {
	cluster := Cluster{
		Emulated:     input.Values.Get(settings.SoftwareEmulation).Bool(),
		DefaultClass: input.Values.Get(settings.DefaultDiskClass).String(),
	}
	var err error
	if cluster.Nodes, err = objectpatch.UnmarshalToStruct[Node](input.Snapshots, nodes); err != nil {
		return cluster, fmt.Errorf("read Nodes: %w", err)
	}
	found, err := objectpatch.UnmarshalToStruct[class](input.Snapshots, classes)
	if err != nil {
		return cluster, fmt.Errorf("read StorageClasses: %w", err)
	}
	for _, each := range found {
		cluster.Classes = append(cluster.Classes, each.Name)
		if each.Default == "true" && cluster.DefaultClass == "" {
			cluster.DefaultClass = each.Name
		}
	}
	cluster.Shared, err = sharedClasses(ctx, input)
	return cluster, err
}

type class struct {
	Name    string `json:"name"`
	Default string `json:"default"`
}
