// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package customcertificate copies the certificate that an administrator keeps in the namespace d8-system, and names in
// the settings, into the values: the chart puts it where the Ingress of uploads can use it.
//
// It reads that one Secret. The namespace holds those of all the platform, which are nothing to the module: of the other
// certificates it is only told that they change, since nobody can subscribe to a name that is a setting.
package customcertificate

import (
	"context"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// path is where the copy goes in the values.
const path = "virtualization.internal.customCertificateData"

// The settings of the module, and of the platform for modules without their own; as the chart chooses between them.
const (
	ownHTTPS    = "virtualization.https"
	globalHTTPS = "global.modules.https"
)

// Config runs the hook before Helm, and when a certificate is replaced. Secrets of other types are read as well, but not
// watched: most of those in the namespace are Helm's, and large.
var Config = &pkg.HookConfig{
	Queue:        settings.Queue,
	OnBeforeHelm: &pkg.OrderedConfig{Order: settings.OrderDerived},
	Kubernetes: []pkg.KubernetesConfig{{
		Name: "certificates", APIVersion: "v1", Kind: "Secret", JqFilter: `{"crt": .data."tls.crt"}`,
		NamespaceSelector: &pkg.NamespaceSelector{NameSelector: settings.Named(namespace)},
		FieldSelector: &pkg.FieldSelector{MatchExpressions: []pkg.FieldSelectorRequirement{
			{Field: "type", Operator: "Equals", Value: "kubernetes.io/tls"},
		}},
		ExecuteHookOnSynchronization: settings.No(),
	}},
}

var _ = registry.RegisterFunc(Config, Handle)

// Handle copies the certificate that is named now, and leaves none behind that is not used any more.
func Handle(ctx context.Context, input *pkg.HookInput) error {
	https := ownHTTPS
	if !input.Values.Exists(ownHTTPS + ".mode") {
		https = globalHTTPS
	}
	if input.Values.Get(https+".mode").String() != Mode {
		if input.Values.Exists(path) {
			input.Values.Remove(path)
		}
		return nil
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return err
	}
	name := https + ".customCertificate.secretName"
	found, err := Read(ctx, cluster, name, input.Values.Get(name).String())
	if err != nil {
		return err
	}
	input.Values.Set(path, found)
	return nil
}
