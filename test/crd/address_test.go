// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "testing"

const (
	address = `
kind: VirtualMachineIPAddress
metadata: {name: web}
spec: {type: Auto}
`
	lease = `
kind: VirtualMachineIPAddressLease
metadata: {name: ip-10-66-10-5}
spec:
  virtualMachineIPAddressRef: {name: web, namespace: shop}
`
)

func TestAddressDefaults(t *testing.T) {
	checkDefaults(t, "kind: VirtualMachineIPAddress\nmetadata: {name: web}\n", "type: Auto")
}

func TestAddressCreations(t *testing.T) {
	const static = "must be set when type is Static, and only then"
	checkCreations(t, address, map[string]creation{
		"automatic":                    {},
		"automatic with empty address": {change: "spec: {staticIP: ''}"},
		"static":                       {change: "spec: {type: Static, staticIP: 10.66.10.255}"},
		"without a type":               {"spec: {type: null, staticIP: 10.66.10.5}", []string{"spec.type: Required value"}},
		"of an unknown type":           {"spec: {type: Dynamic}", []string{"spec.type", `"Auto", "Static"`}},
		"automatic with an address":    {"spec: {staticIP: 10.66.10.5}", []string{"spec.staticIP", static}},
		"static without an address":    {"spec: {type: Static}", []string{"spec.staticIP", static}},
		"static with empty address":    {"spec: {type: Static, staticIP: ''}", []string{"spec.staticIP", static}},
		"three numbers":                {"spec: {type: Static, staticIP: 10.66.10}", []string{"spec.staticIP", "must be an IP address, for example 10.66.10.5 or fd00::5"}},
		"too large a number":           {"spec: {type: Static, staticIP: 10.66.10.256}", []string{"spec.staticIP", "must be an IP address"}},
		"leading zero":                 {"spec: {type: Static, staticIP: 10.66.10.05}", []string{"spec.staticIP", "must be an IP address"}},
		"IPv6":                         {change: "spec: {type: Static, staticIP: 'fd00::1'}"},
		"IPv6 in full":                 {change: "spec: {type: Static, staticIP: 'fd00:0:0:1:2:3:4:5'}"},
		"IPv6 with a zone":             {"spec: {type: Static, staticIP: 'fe80::1%eth0'}", []string{"spec.staticIP", "must be an IP address"}},
		"IPv6 in capitals":             {"spec: {type: Static, staticIP: 'FD00::1'}", []string{"spec.staticIP", "must be an IP address"}},
		"IPv4 in IPv6":                 {"spec: {type: Static, staticIP: '::ffff:10.66.10.5'}", []string{"spec.staticIP", "must be an IP address"}},
		"a network":                    {"spec: {type: Static, staticIP: 10.66.10.0/24}", []string{"spec.staticIP", "must be an IP address"}},
	})
}

func TestAddressUpdates(t *testing.T) {
	const (
		static = "spec: {type: Static, staticIP: 10.66.10.7}"
		bound  = "{phase: Bound, address: 10.66.10.7}"
	)
	refusal := []string{"spec", "may only change from Auto to Static with the address in status.address"}
	checkUpdates(t, address, map[string]update{
		"static before an address is held": {change: static},
		"static while pending":             {status: "{phase: Pending}", change: static},
		"static with the same address":     {status: bound, change: static},
		"labels":                           {before: static, status: bound, change: "metadata: {labels: {a: b}}"},
		"static corrected":                 {before: static, status: "{phase: Pending}", change: "spec: {staticIP: 10.66.10.8}"},
		"static with another address":      {status: bound, change: "spec: {type: Static, staticIP: 10.66.10.8}", problems: refusal},
		"another static address":           {before: static, status: bound, change: "spec: {staticIP: 10.66.10.8}", problems: refusal},
		"automatic again": {
			before: static, status: "{phase: Attached, address: 10.66.10.7, virtualMachineName: web, observedGeneration: 1}",
			change: "spec: {type: Auto, staticIP: null}", problems: refusal,
		},
	})
}

func TestLeaseCreations(t *testing.T) {
	const name = "metadata.name must be the address, for example ip-10-66-10-5"
	checkCreations(t, lease, map[string]creation{
		"held":               {},
		"released":           {change: "spec: {virtualMachineIPAddressRef: {name: ''}}"},
		"without a spec":     {change: "spec: null"},
		"IPv6":               {change: "metadata: {name: ip-fd00-0000-0000-0000-0000-0000-0000-0005}"},
		"IPv6 shortened":     {"metadata: {name: ip-fd00-0-0-0-0-0-0-5}", []string{name}},
		"IPv6 in part":       {"metadata: {name: ip-fd00-0000-0000-0000-0005}", []string{name}},
		"with another name":  {"metadata: {name: lease-1}", []string{name}},
		"too large a number": {"metadata: {name: ip-10-66-10-300}", []string{name}},
		"five numbers":       {"metadata: {name: ip-10-66-10-5-1}", []string{name}},
		"no namespace":       {"spec: {virtualMachineIPAddressRef: {namespace: null}}", []string{"spec.virtualMachineIPAddressRef.namespace: Required value"}},
		"no name":            {"spec: {virtualMachineIPAddressRef: {name: null}}", []string{"spec.virtualMachineIPAddressRef.name: Required value"}},
	})
}
