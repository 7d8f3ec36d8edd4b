// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tlsapi issues the certificate of virtualization-api, which serves the aggregated API.
package tlsapi

import (
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/servingcert"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// Service is what the certificate is for.
var Service = servingcert.Service{
	Name:       "virtualization-api",
	Secret:     "virtualization-api-tls",
	ValuesPath: settings.APICertificate,
}

var _ = registry.RegisterFunc(Service.Config(), Service.Handle())
