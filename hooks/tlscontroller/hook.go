// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tlscontroller issues the certificate of virtualization-controller, which serves admission webhooks and the importers' progress reports.
package tlscontroller

import (
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/servingcert"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// Service is what the certificate is for.
var Service = servingcert.Service{
	Name:       "virtualization-controller",
	Secret:     "virtualization-controller-tls",
	ValuesPath: settings.ControllerCertificate,
}

var _ = registry.RegisterFunc(Service.Config(), Service.Handle())
