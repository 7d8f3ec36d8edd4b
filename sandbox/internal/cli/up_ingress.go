// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

const (
	// platformNamespace is where Deckhouse lives, and where modules look for the
	// certificate of an administrator.
	platformNamespace = "d8-system"
	// certificateSecret holds that certificate.
	certificateSecret = "ingress-tls"
	ingressNamespace  = "sandbox-ingress"
)

// giveCertificate does what an administrator does who has a certificate for the
// names of all modules: it goes into a Secret that the global settings name.
func (s *session) giveCertificate(ctx context.Context) error {
	manifest, err := certificateManifest(s.state.PKI())
	if err != nil {
		return err
	}
	return s.apply(ctx, manifest)
}

func certificateManifest(directory string) ([]byte, error) {
	data := map[string][]byte{}
	for key, file := range map[string]string{
		corev1.TLSCertKey: pki.Ingress + ".crt", corev1.TLSPrivateKeyKey: pki.Ingress + ".key", corev1.ServiceAccountRootCAKey: pki.CA + ".crt",
	} {
		content, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			return nil, fmt.Errorf("certificate of the ingress: %w", err)
		}
		data[key] = content
	}
	var manifest []byte
	for _, object := range []any{
		corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: platformNamespace, Labels: map[string]string{"heritage": "deckhouse"}},
		},
		corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: certificateSecret, Namespace: platformNamespace},
			Type:       corev1.SecretTypeTLS,
			Data:       data,
		},
	} {
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		manifest = append(append(manifest, "---\n"...), text...)
	}
	return manifest, nil
}

// waitForIngress waits for the program that takes uploads in.
func (s *session) waitForIngress(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := kube.New(s.state.Kubeconfig())
	if err != nil {
		return err
	}
	s.report.Note("waiting for the ingress, see \"sandbox kubectl -n %s get pods\"", ingressNamespace)
	return client.WaitForDeployment(ctx, ingressNamespace, "ingress")
}

// openIngress lets the machine reach what the cluster shows to the outside.
func (s *session) openIngress() error {
	address, err := state.IngressAddress()
	if err != nil {
		return err
	}
	return s.client.EnsureForward(supervisor.ForwardRequest{Listen: address, Target: topology.IngressAddress().String()})
}
