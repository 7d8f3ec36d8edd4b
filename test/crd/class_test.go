// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "testing"

const (
	class = `
kind: VirtualMachineClass
metadata: {name: ordinary}
spec:
  cpu: {type: Host}
`
	wholeClass = `
kind: VirtualMachineClass
metadata:
  name: whole
  annotations: {virtualmachineclass.virtualization.deckhouse.io/is-default-class: "true"}
spec:
  cpu: {type: Model, model: Nehalem}
  nodeSelector:
    matchLabels: {a: b}
    matchExpressions: [{key: c, operator: Gt, values: ["1"]}]
  tolerations: [{key: d, operator: Exists}]
  sizingPolicies:
    - cores: {min: 1, max: 4}
      memory: {min: 1Gi, max: 8Gi, step: 512Mi, perCore: {min: 256Mi, max: 4Gi}}
      coreFractions: [5, 10, 20, 25, 50, 100]
      defaultCoreFraction: 10
      dedicatedCores: [false]
    - cores: {min: 5, max: 8, step: 1}
      defaultCoreFraction: "50%"
    - cores: {min: 9, max: 1024, step: 8}
      memory: {min: 1073741824}
`
)

func TestClassAccepts(t *testing.T) {
	t.Run("whole", func(t *testing.T) { checkCreations(t, wholeClass, map[string]creation{"as it is": {}}) })
	checkCreations(t, class, map[string]creation{
		"host":                     {},
		"passthrough":              {change: "spec: {cpu: {type: HostPassthrough}}"},
		"features":                 {change: "spec: {cpu: {type: Features, features: [vmx]}}"},
		"discovery":                {change: "spec: {cpu: {type: Discovery}}"},
		"discovery of some":        {change: "spec: {cpu: {type: Discovery, discovery: {nodeSelector: {matchLabels: {a: b}}}}}"},
		"default as a bare string": {change: `spec: {sizingPolicies: [{cores: {min: 1, max: 2}, defaultCoreFraction: "25"}]}`},
		"default of everything":    {change: `spec: {sizingPolicies: [{cores: {min: 1, max: 2}, defaultCoreFraction: 100%}]}`},
	})
}

func TestClassRefusals(t *testing.T) {
	checkCreations(t, class, map[string]creation{
		"no processor":        {"spec: {cpu: null}", []string{"spec.cpu: Required value"}},
		"unknown processor":   {"spec: {cpu: {type: Best}}", []string{"spec.cpu.type", `"HostPassthrough"`}},
		"model without one":   {"spec: {cpu: {type: Model}}", []string{"spec.cpu.model", "must be set when type is Model, and only then"}},
		"model of a host":     {"spec: {cpu: {type: Host, model: Nehalem}}", []string{"spec.cpu.model", "only then"}},
		"empty model":         {"spec: {cpu: {type: Model, model: ''}}", []string{"spec.cpu.model"}},
		"features without":    {"spec: {cpu: {type: Features}}", []string{"spec.cpu.features", "must be set when type is Features"}},
		"no features":         {"spec: {cpu: {type: Features, features: []}}", []string{"spec.cpu.features", "at least 1 items"}},
		"discovery of a host": {"spec: {cpu: {type: Host, discovery: {}}}", []string{"spec.cpu.discovery", "only when type is Discovery"}},
		"old discovery":       {"spec: {cpu: {type: Discovery, discovery: {matchLabels: {a: b}}}}", []string{`unknown field "spec.cpu.discovery.matchLabels"`}},
	})
}

func TestClassRefusesPolicies(t *testing.T) {
	checkCreations(t, class, map[string]creation{
		"without cores":     {"spec: {sizingPolicies: [{coreFractions: [5]}]}", []string{"spec.sizingPolicies[0].cores: Required value"}},
		"from nothing":      {"spec: {sizingPolicies: [{cores: {min: 0, max: 4}}]}", []string{"spec.sizingPolicies[0].cores.min"}},
		"to too many":       {"spec: {sizingPolicies: [{cores: {min: 1, max: 1025}}]}", []string{"spec.sizingPolicies[0].cores.max"}},
		"backwards":         {"spec: {sizingPolicies: [{cores: {min: 4, max: 1}}]}", []string{"spec.sizingPolicies[0].cores.max", "max must be greater than min"}},
		"of a single count": {"spec: {sizingPolicies: [{cores: {min: 4, max: 4}}]}", []string{"max must be greater than min"}},
		"wide step":         {"spec: {sizingPolicies: [{cores: {min: 1, max: 4, step: 4}}]}", []string{"spec.sizingPolicies[0].cores.step", "step must be smaller than max"}},
		"overlap": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}}, {cores: {min: 4, max: 8}}]}",
			[]string{"spec.sizingPolicies", "must not overlap"},
		},
		"the same twice": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}}, {cores: {min: 1, max: 4}}]}",
			[]string{"spec.sizingPolicies", "must not overlap"},
		},
		"fraction of nothing": {"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, coreFractions: [0]}]}", []string{"spec.sizingPolicies[0].coreFractions[0]"}},
		"fraction too large":  {"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, coreFractions: [101]}]}", []string{"spec.sizingPolicies[0].coreFractions[0]"}},
		"default of nothing": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, defaultCoreFraction: 0}]}",
			[]string{"spec.sizingPolicies[0].defaultCoreFraction", "from 1 to 100, for example 25"},
		},
		"default in words": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, defaultCoreFraction: half}]}",
			[]string{"spec.sizingPolicies[0].defaultCoreFraction", "from 1 to 100"},
		},
		"memory backwards": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, memory: {min: 2Gi, max: 1Gi}}]}",
			[]string{"spec.sizingPolicies[0].memory.min", "must not be greater than max"},
		},
		"memory per core backwards": {
			"spec: {sizingPolicies: [{cores: {min: 1, max: 4}, memory: {perCore: {min: 2Gi, max: 1000Mi}}}]}",
			[]string{"spec.sizingPolicies[0].memory.perCore.min", "must not be greater than max"},
		},
	})
}

func TestClassUpdates(t *testing.T) {
	checkUpdates(t, wholeClass, map[string]update{
		"policies and nodes": {change: "spec: {nodeSelector: null, tolerations: null, sizingPolicies: []}"},
		"processor": {
			change:   "spec: {cpu: {model: IvyBridge}}",
			problems: []string{"spec.cpu", "make another class and let machines name that"},
		},
		"status": {status: `
phase: Ready
observedGeneration: 1
availableNodes: [node-1]
cpuFeatures: {enabled: [a], notEnabledCommon: [b]}
maxAllocatableResources: {cpu: "4", memory: 8Gi}
`},
	})
}
