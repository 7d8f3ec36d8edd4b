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
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	agents  = "agents"
)

// metric says of each requirement, named by a label, whether it is met.
const metric = "d8_virtualization_requirement_met"

// nodeFilter keeps what the decision needs, so that heartbeats start nothing. After a start of kubelet there are no devices
// at all, healthy or not, before the engine's agent comes: that says nothing about the processor.
const nodeFilter = `{"name": .metadata.name, "os": .status.nodeInfo.operatingSystem, "kernel": .status.nodeInfo.kernelVersion, ` +
	`"kvm": (if .status.capacity["devices.kubevirt.io/kvm"] == "0" then null else .status.allocatable["devices.kubevirt.io/kvm"] end), ` +
	`"network": ([.status.conditions[]? | select(.type == "NetworkUnavailable") | .reason][0]), ` +
	`"label": (.metadata.labels // {})["` + settings.NodeKVMLabel + `"], ` +
	`"note": (.metadata.annotations // {})["` + settings.NodeNoteAnnotation + `"]}`

// agentFilter says since when the engine's agent works on a node; nothing while it does not, or is about to end.
const agentFilter = `{"node": .spec.nodeName, "since": (if .metadata.deletionTimestamp then null else ` +
	`[.status.conditions[]? | select(.type == "Ready" and .status == "True") | .lastTransitionTime][0] end)}`

// settles is how long an agent has worked before what it says of its node counts. While it restarts its devices are no
// good, as they are where there is no hardware virtualization, and kubelet tells of new ones a while later.
const settles = 30 * time.Second

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
		agentsOf(subscription(agents, "v1", "Pod", agentFilter)),
	},
}

func agentsOf(config pkg.KubernetesConfig) pkg.KubernetesConfig {
	config.NamespaceSelector = settings.InNamespace()
	config.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubevirt.io": "virt-handler"}}
	return config
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
	running, err := objectpatch.UnmarshalToStruct[agent](input.Snapshots, agents)
	if err != nil {
		return cluster, fmt.Errorf("read Pods of virt-handler: %w", err)
	}
	leaveOut(cluster.Nodes, running, input.DC.GetClock().Now())
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

// agent is a Pod of virt-handler.
type agent struct {
	Node string `json:"node"`
	// Since is in RFC 3339; empty while the agent does not work.
	Since string `json:"since"`
}

// leaveOut takes the lack of hardware virtualization for unknown where no agent has worked for long enough. The next look
// comes with the schedule.
func leaveOut(all []Node, running []agent, now time.Time) {
	settled := map[string]bool{}
	for _, each := range running {
		since, err := time.Parse(time.RFC3339, each.Since)
		settled[each.Node] = settled[each.Node] || err == nil && now.Sub(since) >= settles
	}
	for i := range all {
		if all[i].KVM == "0" && !settled[all[i].Name] {
			all[i].KVM = ""
		}
	}
}

type class struct {
	Name    string `json:"name"`
	Default string `json:"default"`
}
