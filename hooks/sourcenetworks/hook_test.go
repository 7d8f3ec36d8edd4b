// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcenetworks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const path = "virtualization.internal.imageSources.refusedNetworks"

func values(serviceSubnet, allowed string) string {
	return fmt.Sprintf("{global: {discovery: {serviceSubnet: %q}}, virtualization: {imageSources: {allowedNetworks: [%s]}}}",
		serviceSubnet, allowed)
}

func refused(t *testing.T, values string) []string {
	t.Helper()
	var networks []string
	hooktest.Run{Config: Config, Values: values}.Handle(t, Handle).Decode(path, &networks)
	return networks
}

func TestHandle(t *testing.T) {
	local := []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10"}
	tests := []struct {
		name, values string
		want         []string
	}{
		{name: "nothing allowed", values: values("10.96.0.0/16", ""), want: append(slices.Clone(local), "10.96.0.0/16")},
		{
			name: "two families of services", values: values("10.96.0.0/16, fd00::/112", ""),
			want: append(slices.Clone(local), "10.96.0.0/16", "fd00::/112"),
		},
		{name: "no subnet known", values: "{global: {discovery: {}}, virtualization: {}}", want: local},
		{
			name: "a part of the services", values: values("10.96.0.0/16", "10.96.128.0/18"),
			want: append(slices.Clone(local), "10.96.0.0/17", "10.96.192.0/18"),
		},
		{name: "all services", values: values("10.96.0.0/16", "10.0.0.0/8"), want: local},
		{name: "the very subnet", values: values("10.96.0.0/16", "10.96.0.0/16"), want: local},
		{name: "bits beyond the length", values: values("10.96.0.0/16", "10.96.77.77/16"), want: local},
		{name: "somewhere else", values: values("10.96.0.0/16", "192.0.2.0/24"), want: append(slices.Clone(local), "10.96.0.0/16")},
		{
			name: "loopback", values: values("10.96.0.0/16", `127.0.0.0/8, "::/127"`),
			want: []string{"0.0.0.0/8", "169.254.0.0/16", "fe80::/10", "10.96.0.0/16"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := refused(t, test.values); !slices.Equal(got, test.want) {
				t.Errorf("refused = %v, want %v", got, test.want)
			}
		})
	}
}

// One address is taken out, and nothing else is.
func TestOneServiceIsAllowed(t *testing.T) {
	networks := refused(t, values("10.96.0.0/16", "10.96.0.80/32"))
	if len(networks) != 5+16 {
		t.Errorf("%d networks, want 16 pieces of the subnet and 5 others: %v", len(networks), networks)
	}
	for address, want := range map[string]bool{
		"10.96.0.80": false, "10.96.0.79": true, "10.96.0.81": true, "10.96.0.1": true, "10.96.255.255": true, "10.97.0.0": false,
	} {
		got := slices.ContainsFunc(networks, func(network string) bool {
			return netip.MustParsePrefix(network).Contains(netip.MustParseAddr(address))
		})
		if got != want {
			t.Errorf("%s is refused: %v, want %v", address, got, want)
		}
	}
}

func TestSubtractAddressOfVersion6(t *testing.T) {
	left := subtract(netip.MustParsePrefix("fd00::/126"), netip.MustParsePrefix("fd00::2/128"))
	want := []netip.Prefix{netip.MustParsePrefix("fd00::/127"), netip.MustParsePrefix("fd00::3/128")}
	if !slices.Equal(left, want) {
		t.Errorf("left = %v, want %v", left, want)
	}
}

func TestParseNamesTheField(t *testing.T) {
	_, err := parse("imageSources.allowedNetworks", []string{"10.0.0.0/8", "1::2::3/64"})
	if err == nil || !strings.Contains(err.Error(), `imageSources.allowedNetworks: "1::2::3/64" is no network`) {
		t.Errorf("error = %v, want one that names the field and the text", err)
	}
}
