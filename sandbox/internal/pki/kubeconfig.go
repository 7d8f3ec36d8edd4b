// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// KubeconfigName is the file of a client's kubeconfig in the store.
func KubeconfigName(client string) string { return client + ".kubeconfig" }

// ensureKubeconfigs writes one kubeconfig for each client of the API server.
func ensureKubeconfigs(store *Store, ca Pair, admin Access, nodes []topology.Node) error {
	inCluster := "https://" + topology.APIServer()
	clients := []string{ControllerManager, Scheduler, KubeProxy, Bashible}
	for _, n := range nodes {
		clients = append(clients, KubeletClient(n.Name))
	}
	for _, name := range clients {
		if err := store.kubeconfig(store.path(KubeconfigName(name)), inCluster, ca, name); err != nil {
			return err
		}
	}
	return store.kubeconfig(admin.Kubeconfig, "https://"+admin.Address, ca, Admin)
}

// kubeconfig writes a client's access to a server.
func (s *Store) kubeconfig(path, server string, ca Pair, client string) error {
	pair, err := s.load(client)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", client, err)
	}
	key, err := encodeKey(pair.Key)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", client, err)
	}
	const name = "sandbox"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: ca.CertificatePEM()}
	config.AuthInfos[client] = &api.AuthInfo{ClientCertificateData: pair.CertificatePEM(), ClientKeyData: key}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: client}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("kubeconfig of %s: %w", client, err)
	}
	return WriteFile(path, data, 0o600)
}
