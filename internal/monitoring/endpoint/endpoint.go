// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package endpoint says how the module's programs serve their metrics.
package endpoint

import (
	"crypto/tls"

	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Options serve metrics over TLS, to those whom the cluster allows to get /metrics:
// they name machines of everybody. Whoever asks has to identify themselves with a token
// that the API server knows; the account of the program needs system:auth-delegator.
//
// The certificate is tls.crt and tls.key in certDir, read again when it changes; with
// no folder it is one that the program signs itself, which nobody can verify.
func Options(address, certDir string) metricsserver.Options {
	return metricsserver.Options{
		BindAddress: address, SecureServing: true, CertDir: certDir,
		FilterProvider: filters.WithAuthenticationAndAuthorization,
		TLSOpts:        []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS12 }},
	}
}
