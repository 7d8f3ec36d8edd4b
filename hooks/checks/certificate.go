// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"

	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/customcertificate"
	"github.com/deckhouse/virtualization/hooks/lookup"
)

// Certificate refuses a certificate of the administrator that is not there: nothing of the module could be rolled out
// without it.
func Certificate(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	if input.Settings.Get("https.mode").String() != "CustomCertificate" {
		return settingscheck.Allow()
	}
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return verdict(err)
	}
	_, err = customcertificate.Read(ctx, cluster, customcertificate.NamePath, input.Settings.Get(customcertificate.NamePath).String())
	return verdict(err)
}
