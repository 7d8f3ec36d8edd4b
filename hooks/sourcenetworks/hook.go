// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sourcenetworks finds out which networks images are never downloaded from.
//
// Users name the address and the module's own pods send the request. Without a limit a user would reach, through
// them, what listens on loopback, the metadata service of a cloud, and the Services of others.
package sourcenetworks

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

// always are refused in every cluster: loopback, the unspecified addresses that mean loopback to the kernel, and
// link-local ones.
var always = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("::/127"),
	netip.MustParsePrefix("fe80::/10"),
}

// Config runs the hook before every run of Helm; it depends on values only.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle puts what remains of the refused networks, after the administrator's exceptions, into the values.
func Handle(_ context.Context, input *pkg.HookInput) error {
	refused := append([]netip.Prefix{}, always...)
	subnets, err := parse(settings.ServiceSubnet, strings.Split(input.Values.Get(settings.ServiceSubnet).String(), ","))
	if err != nil {
		return err
	}
	var texts []string
	for _, allowed := range input.Values.Get(settings.AllowedNetworks).Array() {
		texts = append(texts, allowed.String())
	}
	allowed, err := parse(settings.AllowedNetworks, texts)
	if err != nil {
		return err
	}
	left := []string{}
	for _, network := range subtractAll(append(refused, subnets...), allowed) {
		left = append(left, network.String())
	}
	input.Values.Set(settings.RefusedNetworks, left)
	return nil
}

// parse reads networks; the place is where they were written. Bits beyond the length of the network are dropped.
func parse(place string, texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no network in CIDR notation, such as 10.222.0.80/32: %w", place, text, err)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func subtractAll(networks, exceptions []netip.Prefix) []netip.Prefix {
	for _, exception := range exceptions {
		var left []netip.Prefix
		for _, network := range networks {
			left = append(left, subtract(network, exception)...)
		}
		networks = left
	}
	return networks
}

// subtract splits a network in halves until the exception is one of the pieces, and leaves that out.
func subtract(network, exception netip.Prefix) []netip.Prefix {
	if !network.Overlaps(exception) {
		return []netip.Prefix{network}
	}
	if exception.Bits() <= network.Bits() {
		return nil
	}
	lower, upper := halves(network)
	return append(subtract(lower, exception), subtract(upper, exception)...)
}

func halves(network netip.Prefix) (lower, upper netip.Prefix) {
	bits := network.Bits()
	address := network.Addr().AsSlice()
	address[bits/8] |= 0x80 >> (bits % 8)
	second, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(network.Addr(), bits+1), netip.PrefixFrom(second, bits+1)
}
