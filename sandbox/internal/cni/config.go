// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cni is the sandbox's network plugin. An ordinary pod gets any address
// of its node by way of the reference plugins. A pod that asks for an address in
// an annotation gets that one, as from Cilium, behind a route instead of a
// switch, so that it can be on one node now and on another later.
package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
)

const (
	// AddressAnnotation is how a pod asks for an address.
	AddressAnnotation = "cni.cilium.io/ipAddress"
	// annotationsCapability is how containerd passes a pod's annotations on.
	annotationsCapability = "io.kubernetes.cri.pod-annotations"

	bridgePlugin = "bridge"
	podBridge    = "cni0"
)

// Config is the plugin's configuration with what the runtime adds to it.
type Config struct {
	types.PluginConf
	// RuntimeConfig is what the runtime adds for the capabilities named.
	RuntimeConfig map[string]any `json:"runtimeConfig,omitempty"`
	// PodNetwork is the node's range of addresses for ordinary pods.
	PodNetwork netip.Prefix `json:"podNetwork"`
	// MachineGateway is the gateway of pods with an address of their own choice.
	MachineGateway netip.Addr `json:"machineGateway"`
	// DataDir keeps which addresses are taken.
	DataDir string `json:"dataDir"`
}

// Parse reads the configuration from what the runtime sends.
func Parse(stdin []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(stdin, &c); err != nil {
		return Config{}, fmt.Errorf("read network configuration: %w", err)
	}
	switch {
	case !c.PodNetwork.IsValid():
		return Config{}, fmt.Errorf("network configuration has no podNetwork: give a range such as 10.244.1.0/24")
	case !c.MachineGateway.IsValid():
		return Config{}, fmt.Errorf("network configuration has no machineGateway: give an address such as 169.254.1.1")
	case c.DataDir == "":
		return Config{}, fmt.Errorf("network configuration has no dataDir: give a directory for taken addresses")
	}
	return c, nil
}

// Requested returns the address that the pod asks for, or an invalid one if it
// does not ask.
func (c Config) Requested() (netip.Addr, error) {
	annotations, ok := c.RuntimeConfig[annotationsCapability].(map[string]any)
	if !ok {
		return netip.Addr{}, nil
	}
	text, _ := annotations[AddressAnnotation].(string)
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("annotation %s: %q is not an IPv4 address: write it as 10.66.10.5", AddressAnnotation, text)
	}
	return a, nil
}

// bridgeConfig is the configuration of the plugin that serves ordinary pods.
func (c Config) bridgeConfig() ([]byte, error) {
	return json.Marshal(map[string]any{
		"cniVersion":  c.CNIVersion,
		"name":        c.Name,
		"type":        bridgePlugin,
		"bridge":      podBridge,
		"isGateway":   true,
		"hairpinMode": true,
		"ipam": map[string]any{
			"type":    "host-local",
			"dataDir": c.DataDir,
			"ranges":  [][]map[string]string{{{"subnet": c.PodNetwork.String()}}},
			"routes":  []map[string]string{{"dst": "0.0.0.0/0"}},
		},
	})
}
