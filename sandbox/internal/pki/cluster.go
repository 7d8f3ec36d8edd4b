// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// Names of the pairs in the store, used by whoever points a process at them.
const (
	CA                = "ca"
	FrontProxyCA      = "front-proxy-ca"
	APIServer         = "apiserver"
	APIServerKubelet  = "apiserver-kubelet-client"
	FrontProxyClient  = "front-proxy-client"
	ServiceAccounts   = "sa"
	Admin             = "admin"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	KubeProxy         = "kube-proxy"
	// Bashible configures nodes as Deckhouse's side of the contract says.
	Bashible = "bashible"
	// Ingress is what the ingress controller shows to those who come from outside.
	Ingress = "ingress"
)

// KubeletClient names a kubelet's identity towards the API server.
func KubeletClient(node string) string { return "kubelet-" + node }

// KubeletServer names the certificate a kubelet serves with.
func KubeletServer(node string) string { return "kubelet-" + node + "-server" }

// Access is how the administrator reaches the API server from the machine.
type Access struct {
	// Kubeconfig is the file to write.
	Kubeconfig string
	// Address is where the API server is to be reached.
	Address string
}

// Ensure makes everything the cluster needs in dir, and the administrator's
// access.
func Ensure(dir string, admin Access, nodes []topology.Node) error {
	store, err := NewStore(dir, time.Now)
	if err != nil {
		return err
	}
	ca, err := store.Authority(CA, "sandbox-kubernetes")
	if err != nil {
		return err
	}
	if err := ensureFrontProxy(store); err != nil {
		return err
	}
	if err := store.SigningKey(ServiceAccounts); err != nil {
		return err
	}
	for name, r := range requests(nodes) {
		if _, err := store.Certificate(name, ca, r); err != nil {
			return err
		}
	}
	return ensureKubeconfigs(store, ca, admin, nodes)
}

// ensureFrontProxy makes the API server's identity towards aggregated APIs. Its
// authority is another one, or every client certificate of the cluster could
// speak for any user.
func ensureFrontProxy(store *Store) error {
	ca, err := store.Authority(FrontProxyCA, "sandbox-front-proxy")
	if err != nil {
		return err
	}
	_, err = store.Certificate(FrontProxyClient, ca, client("front-proxy-client"))
	return err
}

// requests lists the certificates signed by the cluster's authority.
func requests(nodes []topology.Node) map[string]Request {
	all := map[string]Request{
		APIServer:         apiServerRequest(nodes),
		APIServerKubelet:  client("kube-apiserver-kubelet-client", "system:masters"),
		Admin:             client("admin", "system:masters"),
		ControllerManager: client("system:kube-controller-manager"),
		Scheduler:         client("system:kube-scheduler"),
		KubeProxy:         client("system:kube-proxy"),
		Bashible:          client("sandbox:bashible"),
		Ingress:           server("*."+topology.PublicDomain, []string{"*." + topology.PublicDomain}),
	}
	for _, n := range nodes {
		all[KubeletClient(n.Name)] = client("system:node:"+n.Name, "system:nodes")
		all[KubeletServer(n.Name)] = server(n.Name, []string{n.Name}, net.IP(n.Address.AsSlice()))
	}
	return all
}

func apiServerRequest(nodes []topology.Node) Request {
	return server("kube-apiserver",
		[]string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + topology.ClusterDomain,
		},
		net.IPv4(127, 0, 0, 1), net.IP(nodes[0].Address.AsSlice()), net.IP(topology.APIService.AsSlice()))
}

func client(name string, groups ...string) Request {
	return Request{CommonName: name, Organizations: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func server(name string, dns []string, ips ...net.IP) Request {
	return Request{CommonName: name, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: dns, IPs: ips}
}
