// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tlsdvcr issues the certificate of the module's registry.
//
// Nodes have no cluster DNS and reach the registry by the ClusterIP of its Service, so the address
// is part of the certificate and nothing is issued before it is known.
package tlsdvcr

import (
	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/servingcert"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// Service is what the certificate is for.
var Service = servingcert.Service{
	Name:       "dvcr",
	Secret:     "dvcr-tls",
	ValuesPath: settings.DVCRCertificate,
	Needs:      []string{settings.DVCRServiceIP},
	Extra: func(input *pkg.HookInput) []string {
		return []string{"localhost", "127.0.0.1", input.Values.Get(settings.DVCRServiceIP).String()}
	},
}

var _ = registry.RegisterFunc(Service.Config(), Service.Handle())
