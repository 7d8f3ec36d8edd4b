// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/lookup"
)

const (
	certificatePath = "https.customCertificate.secretName"
	// platformNamespace is where administrators keep certificates for all modules.
	platformNamespace = "d8-system"
)

// Certificate refuses a certificate of the administrator that is not there: nothing of the module could be rolled out
// without it.
func Certificate(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	if input.Settings.Get("https.mode").String() != "CustomCertificate" {
		return settingscheck.Allow()
	}
	name := input.Settings.Get(certificatePath).String()
	if name == "" {
		return settingscheck.Reject(certificatePath + ": is required where https.mode is CustomCertificate: name a Secret of the namespace " + platformNamespace)
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return verdict(err)
	}
	secret, err := cluster.Get(ctx, lookup.Secrets, platformNamespace, name)
	if err != nil {
		return verdict(err)
	}
	return verdict(judgeCertificate(name, secret))
}

// judgeCertificate never shows what a Secret holds.
func judgeCertificate(name string, secret *unstructured.Unstructured) error {
	if secret == nil {
		return fmt.Errorf("%s: there is no Secret %s in the namespace %s: create it first, of the type kubernetes.io/tls", certificatePath, name, platformNamespace)
	}
	for _, key := range []string{"tls.crt", "tls.key"} {
		if value, _, _ := unstructured.NestedString(secret.Object, "data", key); value == "" {
			return fmt.Errorf("%s: the Secret %s in the namespace %s has no %s: put the certificate and its key there first", certificatePath, name, platformNamespace, key)
		}
	}
	return nil
}
