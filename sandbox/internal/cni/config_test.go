// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"strings"
	"testing"
)

const base = `"cniVersion":"1.0.0","name":"sandbox","type":"sandbox-cni","podNetwork":"10.244.1.0/24","machineGateway":"169.254.1.1","dataDir":"/run/cni"`

// config is what the runtime sends for a pod with an annotation.
func config(annotation string) []byte {
	if annotation == "" {
		return []byte("{" + base + "}")
	}
	return []byte("{" + base + `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"other":"x","cni.cilium.io/ipAddress":` + annotation + `}}}`)
}

func TestParseNamesWhatIsMissing(t *testing.T) {
	tests := map[string]string{
		`{"machineGateway":"169.254.1.1","dataDir":"/d"}`:           "podNetwork",
		`{"podNetwork":"10.244.1.0/24","dataDir":"/d"}`:             "machineGateway",
		`{"podNetwork":"10.244.1.0/24","machineGateway":"1.1.1.1"}`: "dataDir",
		`{"podNetwork":"nonsense"}`:                                 "network configuration",
		`no json`:                                                   "network configuration",
	}
	for in, want := range tests {
		if _, err := Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", in, err, want)
		}
	}
}

func TestRequested(t *testing.T) {
	tests := []struct{ name, annotation, want, problem string }{
		{name: "no annotations", want: "invalid IP"},
		{name: "empty", annotation: `""`, want: "invalid IP"},
		{name: "no text", annotation: `5`, want: "invalid IP"},
		{name: "address", annotation: `"10.66.10.5"`, want: "10.66.10.5"},
		{name: "nonsense", annotation: `"10.66.10"`, problem: `cni.cilium.io/ipAddress: "10.66.10" is not an IPv4 address`},
		{name: "with length", annotation: `"10.66.10.5/24"`, problem: "is not an IPv4 address"},
		{name: "version 6", annotation: `"fd00::5"`, problem: "is not an IPv4 address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(config(tt.annotation))
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Requested()
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil || got.String() != tt.want {
				t.Fatalf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestBridgeConfig(t *testing.T) {
	c, err := Parse(config(`"10.66.10.5"`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.bridgeConfig()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"bridge":"cni0","cniVersion":"1.0.0","hairpinMode":true,` +
		`"ipam":{"dataDir":"/run/cni","ranges":[[{"subnet":"10.244.1.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}],"type":"host-local"},` +
		`"isGateway":true,"name":"sandbox","type":"bridge"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !json.Valid(got) {
		t.Error("not valid")
	}
}
