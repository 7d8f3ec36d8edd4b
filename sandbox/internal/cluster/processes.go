// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

const etcdClients = "http://127.0.0.1:2379"

// planner describes the processes of one node.
type planner struct {
	in    Input
	node  topology.Node
	files []box.File
}

// api lists the API server with its store.
func (p planner) api() []process.Spec {
	if !p.node.ControlPlane {
		return nil
	}
	return []process.Spec{p.etcd(), p.apiServer()}
}

// processes lists what runs in the node beside the API server.
func (p planner) processes() []process.Spec {
	list := []process.Spec{p.containerd(), p.kubelet(), p.kubeProxy(), p.bashible()}
	if p.node.ControlPlane {
		list = append(list, p.controllerManager(), p.scheduler())
	}
	return list
}

// spec describes a process whose revision follows the configuration files named.
func (p planner) spec(dir, name string, args []string, configs ...string) process.Spec {
	// Only its own directory and Debian's: a process is restarted when its
	// environment changes, and a new tool is no reason to restart etcd.
	path := []string{dir, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	var used []box.File
	for _, f := range p.files {
		for _, c := range configs {
			if filepath.Base(f.Path) == c {
				used = append(used, f)
			}
		}
	}
	return process.Spec{
		Name:     name,
		Argv:     append([]string{filepath.Join(dir, name)}, args...),
		Env:      []string{"HOME=/root", "PATH=" + strings.Join(path, ":")},
		Revision: revision(used...),
	}
}

func (p planner) crt(name string) string { return filepath.Join(p.in.State.PKI(), name+".crt") }
func (p planner) key(name string) string { return filepath.Join(p.in.State.PKI(), name+".key") }
func (p planner) pub(name string) string { return filepath.Join(p.in.State.PKI(), name+".pub") }

func (p planner) kubeconfig(client string) string {
	return filepath.Join(p.in.State.PKI(), pki.KubeconfigName(client))
}

func (p planner) config(name string) string { return configPath(p.in, p.node, name) }

// etcd does not wait for the disk: a machine that loses power loses the sandbox,
// which is cheaper than waiting for each of its writes.
func (p planner) etcd() process.Spec {
	const peers = "http://127.0.0.1:2380"
	return p.spec(p.in.Artifacts.Kubernetes, "etcd", []string{
		"--name=" + p.node.Name,
		"--data-dir=" + p.in.State.Etcd(),
		"--listen-client-urls=" + etcdClients,
		"--advertise-client-urls=" + etcdClients,
		"--listen-peer-urls=" + peers,
		"--initial-advertise-peer-urls=" + peers,
		"--initial-cluster=" + p.node.Name + "=" + peers,
		"--unsafe-no-fsync",
		"--auto-compaction-mode=periodic",
		"--auto-compaction-retention=10m",
		"--log-level=warn",
	})
}

func (p planner) apiServer() process.Spec {
	return p.spec(p.in.Artifacts.Kubernetes, "kube-apiserver", []string{
		"--etcd-servers=" + etcdClients,
		"--advertise-address=" + p.node.Address.String(),
		"--bind-address=0.0.0.0",
		fmt.Sprintf("--secure-port=%d", topology.APIPort),
		"--tls-cert-file=" + p.crt(pki.APIServer),
		"--tls-private-key-file=" + p.key(pki.APIServer),
		"--client-ca-file=" + p.crt(pki.CA),
		"--kubelet-certificate-authority=" + p.crt(pki.CA),
		"--kubelet-client-certificate=" + p.crt(pki.APIServerKubelet),
		"--kubelet-client-key=" + p.key(pki.APIServerKubelet),
		"--kubelet-preferred-address-types=InternalIP",
		"--proxy-client-cert-file=" + p.crt(pki.FrontProxyClient),
		"--proxy-client-key-file=" + p.key(pki.FrontProxyClient),
		"--requestheader-client-ca-file=" + p.crt(pki.FrontProxyCA),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--service-account-issuer=https://kubernetes.default.svc." + topology.ClusterDomain,
		"--service-account-key-file=" + p.pub(pki.ServiceAccounts),
		"--service-account-signing-key-file=" + p.key(pki.ServiceAccounts),
		"--service-cluster-ip-range=" + topology.ServiceNetwork.String(),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--audit-policy-file=" + p.config(auditPolicyFile),
		"--audit-log-path=" + filepath.Join(p.in.State.Logs(p.node.Name), "audit.log"),
		"--audit-log-maxsize=32",
		"--audit-log-maxbackup=1",
		"--audit-log-mode=batch",
	}, auditPolicyFile)
}

func (p planner) controllerManager() process.Spec {
	kubeconfig := p.kubeconfig(pki.ControllerManager)
	return p.spec(p.in.Artifacts.Kubernetes, "kube-controller-manager", []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + p.key(pki.ServiceAccounts),
		"--root-ca-file=" + p.crt(pki.CA),
		"--cluster-signing-cert-file=" + p.crt(pki.CA),
		"--cluster-signing-key-file=" + p.key(pki.CA),
		"--service-cluster-ip-range=" + topology.ServiceNetwork.String(),
		// There is only one, so nobody is to be waited for after a restart.
		"--leader-elect=false",
	})
}

func (p planner) scheduler() process.Spec {
	kubeconfig := p.kubeconfig(pki.Scheduler)
	return p.spec(p.in.Artifacts.Kubernetes, "kube-scheduler", []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
	})
}

func (p planner) containerd() process.Spec {
	return p.spec(p.in.Artifacts.Containerd, "containerd",
		[]string{"--config=" + p.config(containerdFile)}, containerdFile)
}

func (p planner) kubelet() process.Spec {
	spec := p.spec(p.in.Artifacts.Kubernetes, "kubelet", []string{
		"--config=" + p.config(kubeletFile),
		"--kubeconfig=" + p.kubeconfig(pki.KubeletClient(p.node.Name)),
		"--hostname-override=" + p.node.Name,
		"--node-ip=" + p.node.Address.String(),
		"--root-dir=/var/lib/kubelet",
	}, kubeletFile)
	spec.WaitFor = containerdSocket
	return spec
}

// bashible configures the node as Deckhouse's side of the contract says.
func (p planner) bashible() process.Spec {
	spec := p.spec(p.in.Artifacts.Tools, "sandbox-bashible", []string{
		"--kubeconfig=" + p.kubeconfig(pki.Bashible),
		"--node=" + p.node.Name,
	})
	spec.Name = "bashible"
	return spec
}

func (p planner) kubeProxy() process.Spec {
	return p.spec(p.in.Artifacts.Kubernetes, "kube-proxy", []string{
		"--config=" + p.config(kubeProxyFile),
		"--hostname-override=" + p.node.Name,
	}, kubeProxyFile)
}
