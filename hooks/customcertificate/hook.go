// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package customcertificate copies the certificate that an administrator keeps in the namespace d8-system, and names in
// the settings, into the values: the chart puts it where the Ingress of uploads can use it.
package customcertificate

import (
	copycustomcertificate "github.com/deckhouse/module-sdk/common-hooks/copy-custom-certificate"
)

var _ = copycustomcertificate.RegisterHook("virtualization")
