// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"strings"
	"testing"
)

const machine = `
kind: VirtualMachine
metadata: {name: web}
spec:
  virtualMachineClassName: generic
  cpu: {cores: 2}
  memory: {size: 4Gi}
  blockDeviceRefs:
    - {kind: VirtualDisk, name: system}
`

func TestMachineDefaults(t *testing.T) {
	checkDefaults(t, machine, `
virtualMachineClassName: generic
cpu: {cores: 2}
memory: {size: 4Gi}
blockDeviceRefs:
  - {kind: VirtualDisk, name: system}
runPolicy: AlwaysOnUnlessStoppedManually
enableParavirtualization: true
osType: Generic
bootloader: BIOS
terminationGracePeriodSeconds: 60
disruptions: {restartApprovalMode: Manual}
liveMigrationPolicy: PreferSafe
`)
}

func TestMachineDefaultsOfReferences(t *testing.T) {
	checkDefaults(t, strings.Replace(machine, "spec:", `spec:
  runPolicy: Manual
  enableParavirtualization: false
  osType: Windows
  bootloader: EFI
  terminationGracePeriodSeconds: 5
  disruptions: {restartApprovalMode: Automatic}
  liveMigrationPolicy: AlwaysSafe
  provisioning: {type: SysprepRef, sysprepRef: {name: answers}}`, 1), `
virtualMachineClassName: generic
cpu: {cores: 2}
memory: {size: 4Gi}
blockDeviceRefs:
  - {kind: VirtualDisk, name: system}
runPolicy: Manual
enableParavirtualization: false
osType: Windows
bootloader: EFI
terminationGracePeriodSeconds: 5
disruptions: {restartApprovalMode: Automatic}
liveMigrationPolicy: AlwaysSafe
provisioning: {type: SysprepRef, sysprepRef: {kind: Secret, name: answers}}
`)
}

func TestMachineWithEverything(t *testing.T) {
	checkCreations(t, machine, map[string]creation{
		"no class": {change: "spec: {virtualMachineClassName: null}"},
		"placement": {change: `
spec:
  nodeSelector: {disk: ssd}
  priorityClassName: important
  virtualMachineIPAddressName: web
  tolerations:
    - {key: dedicated, operator: Equal, value: machines, effect: NoExecute, tolerationSeconds: 30}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: DoNotSchedule
      labelSelector: {matchLabels: {app: web}}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
          - matchExpressions: [{key: disk, operator: In, values: [ssd]}]
    virtualMachineAndPodAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 10
          virtualMachineAndPodAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector: {matchLabels: {app: cache}}
    virtualMachineAndPodAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          namespaceSelector: {}
          labelSelector: {matchExpressions: [{key: app, operator: Exists}]}
`},
		"every kind of device": {change: `
spec:
  blockDeviceRefs:
    - {kind: VirtualDisk, name: a, bootOrder: 2}
    - {kind: VirtualImage, name: a, bootOrder: 1}
    - {kind: ClusterVirtualImage, name: a}
`},
		"legacy with four devices": {change: `
spec:
  osType: Legacy
  enableParavirtualization: false
  blockDeviceRefs: [{kind: VirtualDisk, name: a}, {kind: VirtualDisk, name: b}, {kind: VirtualDisk, name: c}, {kind: VirtualDisk, name: d}]
`},
		"legacy with virtio": {change: `
spec:
  osType: Legacy
  blockDeviceRefs: [{kind: VirtualDisk, name: a}, {kind: VirtualDisk, name: b}, {kind: VirtualDisk, name: c}, {kind: VirtualDisk, name: d}, {kind: VirtualDisk, name: e}]
`},
		"user data of 2048 bytes": {change: "spec: {provisioning: {type: UserData, userData: " + strings.Repeat("a", 2048) + "}}"},
		"user data from a Secret": {change: "spec: {provisioning: {type: UserDataRef, userDataRef: {kind: Secret, name: cloud-init}}}"},
		"sysprep":                 {change: "spec: {osType: Windows, provisioning: {type: SysprepRef, sysprepRef: {name: answers}}}"},
		"name of 63 characters":   {change: "metadata: {name: " + strings.Repeat("a", 63) + "}"},
		"dots in the name":        {change: "metadata: {name: web.example}"},
		"fraction":                {change: "spec: {cpu: {coreFraction: 25%}}"},
		"full fraction":           {change: "spec: {cpu: {coreFraction: 100%}}"},
		"automatic fraction":      {change: "spec: {cpu: {coreFraction: Auto}}"},
		"16 cores":                {change: "spec: {cpu: {cores: 16}}"},
		"15 cores":                {change: "spec: {cpu: {cores: 15}}"},
		"18 cores":                {change: "spec: {cpu: {cores: 18}}"},
		"36 cores":                {change: "spec: {cpu: {cores: 36}}"},
		"248 cores":               {change: "spec: {cpu: {cores: 248}}"},
	})
}

func TestMachineRefusals(t *testing.T) {
	checkCreations(t, machine, map[string]creation{
		"name too long": {
			"metadata: {name: " + strings.Repeat("a", 64) + "}",
			[]string{"metadata.name must be no longer than 63 characters"},
		},
		"unknown field":       {"spec: {runpolicy: Manual}", []string{`unknown field "spec.runpolicy"`}},
		"unknown run policy":  {"spec: {runPolicy: Sometimes}", []string{"spec.runPolicy", `"AlwaysOn", "AlwaysOff", "Manual"`}},
		"unknown OS":          {"spec: {osType: Linux}", []string{"spec.osType", `"Windows", "Generic", "Legacy"`}},
		"unknown bootloader":  {"spec: {bootloader: UEFI}", []string{"spec.bootloader", `"EFIWithSecureBoot"`}},
		"empty class":         {"spec: {virtualMachineClassName: ''}", []string{"spec.virtualMachineClassName", "at least 1 chars"}},
		"no processor":        {"spec: {cpu: null}", []string{"spec.cpu: Required value"}},
		"no memory":           {"spec: {memory: {size: null}}", []string{"spec.memory.size: Required value"}},
		"memory of nothing":   {"spec: {memory: {size: '0'}}", []string{"spec.memory.size", "must be greater than zero, for example 4Gi"}},
		"negative memory":     {"spec: {memory: {size: -1Gi}}", []string{"spec.memory.size", "must be greater than zero"}},
		"memory in words":     {"spec: {memory: {size: much}}", []string{"spec.memory.size"}},
		"no cores":            {"spec: {cpu: {cores: 0}}", []string{"spec.cpu.cores", "greater than or equal to 1"}},
		"17 cores":            {"spec: {cpu: {cores: 17}}", []string{"spec.cpu.cores", "must be even above 16"}},
		"34 cores":            {"spec: {cpu: {cores: 34}}", []string{"spec.cpu.cores", "a multiple of 4 above 32"}},
		"68 cores":            {"spec: {cpu: {cores: 68}}", []string{"spec.cpu.cores", "a multiple of 8 above 64"}},
		"256 cores":           {"spec: {cpu: {cores: 256}}", []string{"spec.cpu.cores", "less than or equal to 248"}},
		"fraction of nothing": {"spec: {cpu: {coreFraction: 0%}}", []string{"spec.cpu.coreFraction", "from 1% to 100%, for example 25%, or Auto"}},
		"fraction too large":  {"spec: {cpu: {coreFraction: 101%}}", []string{"spec.cpu.coreFraction", "from 1% to 100%"}},
		"fraction bare":       {"spec: {cpu: {coreFraction: '25'}}", []string{"spec.cpu.coreFraction", "from 1% to 100%"}},
		"no grace":            {"spec: {terminationGracePeriodSeconds: -1}", []string{"spec.terminationGracePeriodSeconds"}},
		"unknown restart":     {"spec: {disruptions: {restartApprovalMode: Never}}", []string{"spec.disruptions.restartApprovalMode"}},
		"unknown migration":   {"spec: {liveMigrationPolicy: Manual}", []string{"spec.liveMigrationPolicy"}},
	})
}

func TestMachineRefusesDevices(t *testing.T) {
	many := "spec: {blockDeviceRefs: [" + strings.Repeat("{kind: VirtualDisk, name: a},", 17) + "]}"
	checkCreations(t, machine, map[string]creation{
		"none":              {"spec: {blockDeviceRefs: []}", []string{"spec.blockDeviceRefs", "at least 1 items"}},
		"seventeen":         {many, []string{"spec.blockDeviceRefs", "at most 16 items"}},
		"of another kind":   {"spec: {blockDeviceRefs: [{kind: Secret, name: a}]}", []string{"spec.blockDeviceRefs[0].kind", `"VirtualDisk"`}},
		"without a kind":    {"spec: {blockDeviceRefs: [{name: a}]}", []string{"spec.blockDeviceRefs[0].kind: Required value"}},
		"without a name":    {"spec: {blockDeviceRefs: [{kind: VirtualDisk}]}", []string{"spec.blockDeviceRefs[0].name: Required value"}},
		"twice":             {"spec: {blockDeviceRefs: [{kind: VirtualDisk, name: a}, {kind: VirtualDisk, name: a}]}", []string{"spec.blockDeviceRefs", "must not name a device twice"}},
		"boot order of 0":   {"spec: {blockDeviceRefs: [{kind: VirtualDisk, name: a, bootOrder: 0}]}", []string{"spec.blockDeviceRefs[0].bootOrder"}},
		"boot order of two": {"spec: {blockDeviceRefs: [{kind: VirtualDisk, name: a, bootOrder: 1}, {kind: VirtualDisk, name: b, bootOrder: 1}]}", []string{"spec.blockDeviceRefs", "bootOrder must differ between devices"}},
		"five of a legacy machine": {
			`
spec:
  osType: Legacy
  enableParavirtualization: false
  blockDeviceRefs: [{kind: VirtualDisk, name: a}, {kind: VirtualDisk, name: b}, {kind: VirtualDisk, name: c}, {kind: VirtualDisk, name: d}, {kind: VirtualDisk, name: e}]
`, []string{"spec.blockDeviceRefs", "4 devices at most when osType is Legacy"},
		},
	})
}

func TestMachineRefusesProvisioning(t *testing.T) {
	long := strings.Repeat("ы", 1025)
	checkCreations(t, machine, map[string]creation{
		"of a legacy machine": {"spec: {osType: Legacy, provisioning: {type: UserData, userData: a}}", []string{"spec.provisioning", "must be left out when osType is Legacy"}},
		"EFI and legacy":      {"spec: {osType: Legacy, bootloader: EFI}", []string{"spec.bootloader", "must be BIOS when osType is Legacy"}},
		"without a type":      {"spec: {provisioning: {userData: a}}", []string{"spec.provisioning.type: Required value"}},
		"without its member":  {"spec: {provisioning: {type: UserDataRef}}", []string{"spec.provisioning.userDataRef", "must be set when type is UserDataRef, and only then"}},
		"with two members": {
			"spec: {provisioning: {type: UserData, userData: a, sysprepRef: {name: b}}}",
			[]string{"spec.provisioning.sysprepRef", "must be set when type is SysprepRef, and only then"},
		},
		"with another's member": {
			"spec: {provisioning: {type: SysprepRef, userData: a}}",
			[]string{"spec.provisioning.userData", "spec.provisioning.sysprepRef"},
		},
		"from a ConfigMap": {"spec: {provisioning: {type: UserDataRef, userDataRef: {kind: ConfigMap, name: a}}}", []string{"spec.provisioning.userDataRef.kind", `"Secret"`}},
		"without a name":   {"spec: {provisioning: {type: UserDataRef, userDataRef: {kind: Secret}}}", []string{"spec.provisioning.userDataRef.name: Required value"}},
		"of 2050 bytes":    {"spec: {provisioning: {type: UserData, userData: " + long + "}}", []string{"spec.provisioning.userData", "no longer than 2048 bytes: put longer data into a Secret"}},
	})
}

// TestMachineStatus writes everything that a controller may write, and reads the untyped values back.
func TestMachineStatus(t *testing.T) {
	checkUpdates(t, machine, map[string]update{
		"everything": {status: `
phase: Running
observedGeneration: 1
nodeName: node-1
ipAddress: 10.66.10.5
virtualMachineIPAddressName: web-abcde
conditions:
  - {type: Ready, status: "True", reason: Running, message: "", lastTransitionTime: "2026-01-02T03:04:05Z", observedGeneration: 1}
blockDeviceRefs:
  - {kind: VirtualDisk, name: system, size: 10Gi, attached: true, target: sda, bootOrder: 1}
resources:
  cpu: {cores: 2, coreFraction: 50%, requestedCores: "1", runtimeOverhead: 10m, topology: {sockets: 1, coresPerSocket: 2}}
  memory: {size: 4Gi, runtimeOverhead: 300Mi}
recommendedResources: {cpu: {coreFraction: 25%}}
guestOSInfo: {name: Debian, anything: {else: [1]}}
virtualMachinePods: [{name: launcher, active: true}]
versions: {qemu: "10.0", libvirt: "11.3"}
migrationState: {result: "", startTimestamp: null, source: {node: a, pod: b}, target: {node: c}}
restartAwaitingChanges:
  - {operation: replace, path: cpu.cores, currentValue: 2, desiredValue: 4}
  - {operation: add, path: affinity, desiredValue: {nodeAffinity: {}}}
  - {operation: remove, path: nodeSelector, currentValue: [a, {b: c}]}
stats:
  lastStartTime: "2026-01-02T03:04:05Z"
  phasesTransitions: [{phase: Pending, timestamp: "2026-01-02T03:04:05Z"}]
  launchTimeDuration: {waitingForDependencies: 1m30s, virtualMachineStarting: null}
`},
	})
}
