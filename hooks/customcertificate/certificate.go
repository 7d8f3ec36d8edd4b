// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package customcertificate

import (
	"context"
	"encoding/base64"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/virtualization/hooks/lookup"
)

const (
	// Mode is the value of https.mode in which the certificate is the administrator's.
	Mode = "CustomCertificate"
	// NamePath is the setting of the module that names the Secret.
	NamePath = "https.customCertificate.secretName"
	// namespace is where administrators keep certificates for all modules.
	namespace = "d8-system"
)

// Certificate is one as the chart takes it: plain PEM.
type Certificate struct {
	CA  string `json:"ca.crt,omitempty"`
	Crt string `json:"tls.crt"`
	Key string `json:"tls.key"`
}

// Read returns the certificate that a setting names. The error says what to do with the setting or the Secret, and never
// shows what the Secret holds.
func Read(ctx context.Context, cluster lookup.Cluster, setting, name string) (Certificate, error) {
	if name == "" {
		return Certificate{}, fmt.Errorf("%s: is required where https.mode is %s: name a Secret of the namespace %s", setting, Mode, namespace)
	}
	secret, err := cluster.Get(ctx, lookup.Secrets, namespace, name)
	if err != nil {
		return Certificate{}, err
	}
	if secret == nil {
		return Certificate{}, fmt.Errorf("%s: there is no Secret %s in the namespace %s: create it first, of the type kubernetes.io/tls", setting, name, namespace)
	}
	for _, key := range []string{"tls.crt", "tls.key"} {
		if value(secret, key) == "" {
			return Certificate{}, fmt.Errorf("%s: the Secret %s in the namespace %s has no %s: put the certificate and its key there first", setting, name, namespace, key)
		}
	}
	return Certificate{CA: value(secret, "ca.crt"), Crt: value(secret, "tls.crt"), Key: value(secret, "tls.key")}, nil
}

// value is empty where the server would not have taken it, too.
func value(secret *unstructured.Unstructured, key string) string {
	encoded, _, _ := unstructured.NestedString(secret.Object, "data", key)
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	return string(decoded)
}
