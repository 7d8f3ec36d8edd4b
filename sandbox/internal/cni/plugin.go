// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"net/netip"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// Attachment connects a pod that chose its address, and disconnects it.
type Attachment interface {
	Attach(netns, ifName string, address, gateway netip.Addr, cniVersion string) (types.Result, error)
	Detach(netns, ifName string) error
	Check(netns, ifName string, address netip.Addr) error
}

// Plugin answers the calls of a container runtime.
type Plugin struct {
	attachment Attachment
	// exec runs other plugins; nil is the library's own way.
	exec invoke.Exec
}

// New returns the plugin as nodes run it.
func New() *Plugin { return &Plugin{attachment: routed{}} }

// Main serves one call, as the environment and standard input describe it.
func (p *Plugin) Main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: p.Add, Del: p.Del, Check: p.Check, Status: p.Status},
		version.PluginSupports("0.4.0", "1.0.0", "1.1.0"), "sandbox-cni")
}

// Add connects a pod.
func (p *Plugin) Add(args *skel.CmdArgs) error {
	c, address, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	var result types.Result
	if address.IsValid() {
		result, err = p.attachment.Attach(args.Netns, args.IfName, address, c.MachineGateway, c.CNIVersion)
	} else {
		result, err = p.addToBridge(c)
	}
	if err != nil {
		return err
	}
	return types.PrintResult(result, c.CNIVersion)
}

func (p *Plugin) addToBridge(c Config) (types.Result, error) {
	conf, err := c.bridgeConfig()
	if err != nil {
		return nil, err
	}
	return invoke.DelegateAdd(context.Background(), bridgePlugin, conf, p.exec)
}

// Del disconnects a pod. One that is not connected any more is no error: the
// runtime asks again until it succeeds.
func (p *Plugin) Del(args *skel.CmdArgs) error {
	c, address, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if address.IsValid() {
		return p.attachment.Detach(args.Netns, args.IfName)
	}
	conf, err := c.bridgeConfig()
	if err != nil {
		return err
	}
	return invoke.DelegateDel(context.Background(), bridgePlugin, conf, p.exec)
}

// Check looks whether a pod is still connected.
func (p *Plugin) Check(args *skel.CmdArgs) error {
	c, address, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if address.IsValid() {
		return p.attachment.Check(args.Netns, args.IfName, address)
	}
	conf, err := c.bridgeConfig()
	if err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), bridgePlugin, conf, p.exec)
}

// Status says whether pods can be connected, which needs nothing but the
// configuration.
func (p *Plugin) Status(args *skel.CmdArgs) error {
	_, err := Parse(args.StdinData)
	return err
}

func parse(stdin []byte) (Config, netip.Addr, error) {
	c, err := Parse(stdin)
	if err != nil {
		return Config{}, netip.Addr{}, err
	}
	address, err := c.Requested()
	return c, address, err
}
