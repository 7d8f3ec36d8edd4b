// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package servingcert builds the hooks that issue a certificate for one of the module's Services.
package servingcert

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"

	tlscertificate "github.com/deckhouse/module-sdk/common-hooks/tls-certificate"
	"github.com/deckhouse/module-sdk/pkg"

	"github.com/deckhouse/virtualization/hooks/moduleca"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// Service describes the certificate of a Service.
type Service struct {
	// Name is that of the Service; the names under which pods reach it follow from it.
	Name string
	// Secret is where Helm keeps the certificate.
	Secret string
	// ValuesPath is where the certificate goes in the values.
	ValuesPath string
	// Extra names or addresses, found out when the hook runs.
	Extra func(*pkg.HookInput) []string
	// Needs are further values without which no certificate is issued yet.
	Needs []string
}

// Config is the subscription of the hook.
//
// module-sdk's own one would also run when addon-operator starts, before the authority is known.
func (s Service) Config() *pkg.HookConfig {
	config := tlscertificate.GenSelfSignedTLSConfig(s.issue())
	config.Queue = settings.Queue
	config.OnBeforeHelm = &pkg.OrderedConfig{Order: settings.OrderDerived}
	for i := range config.Kubernetes {
		config.Kubernetes[i].ExecuteHookOnSynchronization = settings.No()
		config.Kubernetes[i].ExecuteHookOnEvents = settings.No()
	}
	return config
}

// Handle keeps the certificate as long as it is valid for the names wanted and signed by the module's authority.
func (s Service) Handle() func(context.Context, *pkg.HookInput) error {
	return tlscertificate.GenSelfSignedTLS(s.issue())
}

func (s Service) issue() tlscertificate.GenSelfSignedTLSHookConf {
	return tlscertificate.GenSelfSignedTLSHookConf{
		CN:                    s.Name,
		Namespace:             settings.Namespace,
		TLSSecretName:         s.Secret,
		FullValuesPathPrefix:  s.ValuesPath,
		CommonCAValuesPath:    settings.RootCA,
		CommonCACanonicalName: moduleca.CommonName,
		CAExpiryDuration:      settings.AuthorityLifetime,
		CAOutdatedDuration:    settings.AuthorityRenewBefore,
		CertExpiryDuration:    settings.CertificateLifetime,
		CertOutdatedDuration:  settings.CertificateRenewAhead,
		Usages: []certificatesv1.KeyUsage{
			certificatesv1.UsageDigitalSignature,
			certificatesv1.UsageKeyEncipherment,
			certificatesv1.UsageServerAuth,
		},
		SANs:            s.names,
		BeforeHookCheck: s.ready,
	}
}

func (s Service) names(input *pkg.HookInput) []string {
	local := s.Name + "." + settings.Namespace + ".svc"
	names := tlscertificate.DefaultSANs([]string{
		s.Name,
		s.Name + "." + settings.Namespace,
		local,
		tlscertificate.ClusterDomainSAN(local),
	})(input)
	if s.Extra != nil {
		names = append(names, s.Extra(input)...)
	}
	return names
}

func (s Service) ready(input *pkg.HookInput) bool {
	for _, path := range append([]string{settings.RootCA}, s.Needs...) {
		if !input.Values.Exists(path) {
			return false
		}
	}
	return true
}
