// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package moduleca keeps the one authority that signs every certificate of the module.
//
// It runs before the hooks that issue certificates. They would each make an authority of their own
// if they found none, so this one always leaves a usable authority in the values.
package moduleca

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/certificate"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/settings"
)

const snapshot = "authority"

// CommonName is the subject of the authority.
const CommonName = "virtualization.deckhouse.io"

// Config subscribes to the Secret in which Helm keeps the authority.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderFirst},
	Kubernetes: []pkg.KubernetesConfig{{
		Name:                         snapshot,
		APIVersion:                   "v1",
		Kind:                         "Secret",
		NamespaceSelector:            settings.InNamespace(),
		NameSelector:                 settings.Named("virtualization-ca"),
		JqFilter:                     certificate.JQFilterApplyCaSelfSignedCert,
		ExecuteHookOnEvents:          settings.No(),
		ExecuteHookOnSynchronization: settings.No(),
	}},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle puts the authority into the values: the one that is stored, else the one in the values
// (Helm may not have stored it yet), else a new one.
func Handle(_ context.Context, input *pkg.HookInput) error {
	stored, err := objectpatch.UnmarshalToStruct[certificate.Authority](input.Snapshots, snapshot)
	if err != nil {
		return fmt.Errorf("read Secret virtualization-ca: %w", err)
	}

	now := input.DC.GetClock().Now()
	for _, candidate := range append(stored, fromValues(input)...) {
		reason := unusable(candidate, now)
		if reason == "" {
			input.Values.Set(settings.RootCA, candidate)
			return nil
		}
		input.Logger.Warn("the module's authority has to be replaced: " + reason)
	}

	created, err := certificate.GenerateCA(CommonName, certificate.WithCAExpiry(settings.AuthorityLifetime))
	if err != nil {
		return fmt.Errorf("create the module's authority: %w", err)
	}
	input.Values.Set(settings.RootCA, *created)
	return nil
}

func fromValues(input *pkg.HookInput) []certificate.Authority {
	value, found := input.Values.GetOk(settings.RootCA)
	if !found {
		return nil
	}
	var authority certificate.Authority
	if json.Unmarshal([]byte(value.Raw), &authority) != nil || len(authority.Cert) == 0 {
		return nil
	}
	return []certificate.Authority{authority}
}

// unusable says why an authority can't be kept, and nothing if it can.
// The hooks that issue certificates refuse a lifetime other than the one they expect, so it counts here too.
func unusable(authority certificate.Authority, now time.Time) string {
	if _, err := tls.X509KeyPair(authority.Cert, authority.Key); err != nil {
		return "certificate and key are broken or belong to different pairs"
	}
	parsed, err := certificate.ParseCertificate(authority.Cert)
	switch {
	case err != nil:
		return "the certificate can't be read"
	case !parsed.IsCA:
		return "the certificate is not that of an authority"
	case parsed.NotAfter.Sub(parsed.NotBefore) != settings.AuthorityLifetime:
		return "the certificate was made for another lifetime"
	case parsed.NotAfter.Sub(now) < settings.AuthorityRenewBefore:
		return "the certificate expires on " + parsed.NotAfter.UTC().Format(time.DateOnly)
	}
	return ""
}
