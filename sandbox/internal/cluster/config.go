// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"embed"
	"net/netip"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/config/v1alpha1"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	kubelet "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// Names of the configuration files of a node.
const (
	kubeletFile     = "kubelet.yaml"
	kubeProxyFile   = "kube-proxy.yaml"
	containerdFile  = "containerd.toml"
	cniFile         = "10-sandbox.conflist"
	auditPolicyFile = "audit-policy.yaml"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	// registryHostsDir is the one that Deckhouse's nodes have.
	registryHostsDir = "/etc/containerd/registry.d"
	// debianCNI is where Debian puts CNI plugins.
	debianCNI = "/usr/lib/cni"
	// cniDataDir keeps which pod has which address. It is forgotten with the
	// node, as no pod outlives it.
	cniDataDir = "/run/sandbox-cni"
)

var defaultRoute = netip.MustParsePrefix("0.0.0.0/0")

//go:embed templates
var templates embed.FS

func netipPrefix(a netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(a, bits) }

func configPath(in Input, n topology.Node, name string) string {
	return in.State.Node(n.Name, "config", name)
}

// configFiles renders the configuration of a node's processes.
func configFiles(in Input, n topology.Node) ([]box.File, error) {
	kubeletConfig, err := yaml.Marshal(kubeletConfiguration(in, n))
	if err != nil {
		return nil, err
	}
	proxyConfig, err := yaml.Marshal(kubeProxyConfiguration(in))
	if err != nil {
		return nil, err
	}
	contents := map[string]string{kubeletFile: string(kubeletConfig), kubeProxyFile: string(proxyConfig)}
	names := []string{kubeletFile, kubeProxyFile, containerdFile, cniFile}
	if n.ControlPlane {
		names = append(names, auditPolicyFile)
	}
	var files []box.File
	for _, name := range names {
		text, ok := contents[name]
		if !ok {
			if text, err = render(name, in, n); err != nil {
				return nil, err
			}
		}
		files = append(files, box.File{Path: configPath(in, n, name), Content: text})
	}
	return files, nil
}

// render fills a template in.
func render(name string, in Input, n topology.Node) (string, error) {
	t, err := template.ParseFS(templates, "templates/"+name)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = t.Option("missingkey=error").Execute(&text, map[string]any{
		"PauseImage":     in.Artifacts.PauseImage,
		"RestrictOOM":    !in.Machine.MayRaisePriority,
		"Runc":           runc(in),
		"CNIBinDirs":     []string{in.Artifacts.Tools, debianCNI},
		"CNIConfDir":     filepath.Dir(configPath(in, n, cniFile)),
		"CNIDataDir":     cniDataDir,
		"RegistryHosts":  registryHostsDir,
		"Socket":         containerdSocket,
		"PodNetwork":     n.PodNetwork.String(),
		"MachineGateway": topology.MachineGateway.String(),
	})
	return text.String(), err
}

// runc is the program that starts containers. Where root itself lacks a
// capability it cannot give it to a container either, so there a program of ours
// takes it out of what containers ask for.
func runc(in Input) string {
	if in.Machine.MayRaisePriority {
		return "/usr/sbin/runc"
	}
	return filepath.Join(in.Artifacts.Tools, "sandbox-runc")
}

func kubeletConfiguration(in Input, n topology.Node) kubelet.KubeletConfiguration {
	crt := func(name string) string { return filepath.Join(in.State.PKI(), name) }
	c := kubelet.KubeletConfiguration{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "kubelet.config.k8s.io/v1beta1", Kind: "KubeletConfiguration"},
		TLSCertFile:              crt(pki.KubeletServer(n.Name) + ".crt"),
		TLSPrivateKeyFile:        crt(pki.KubeletServer(n.Name) + ".key"),
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               "/" + nodeCgroup(in, n),
		FailCgroupV1:             ptr.To(false),
		FailSwapOn:               ptr.To(false),
		ContainerRuntimeEndpoint: "unix://" + containerdSocket,
		ClusterDomain:            topology.ClusterDomain,
		ClusterDNS:               []string{topology.DNSService.String()},
		ResolverConfig:           ptr.To("/etc/resolv.conf"),
		// Images cannot be pulled again, so none may be thrown away.
		ImageGCHighThresholdPercent: ptr.To[int32](100),
		ImageGCLowThresholdPercent:  ptr.To[int32](99),
		EvictionHard: map[string]string{
			"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
		},
		SerializeImagePulls:       ptr.To(false),
		NodeStatusUpdateFrequency: metav1.Duration{Duration: 4 * time.Second},
		// Disk usage of volumes is walked through; once a minute is plenty here.
		VolumeStatsAggPeriod: metav1.Duration{Duration: time.Minute},
	}
	c.Authentication.Anonymous.Enabled = ptr.To(false)
	c.Authentication.Webhook.Enabled = ptr.To(true)
	c.Authentication.X509.ClientCAFile = crt(pki.CA + ".crt")
	c.Authorization.Mode = kubelet.KubeletAuthorizationModeWebhook
	if !in.Machine.MayRaisePriority {
		c.OOMScoreAdj = ptr.To[int32](0)
	}
	return c
}

func kubeProxyConfiguration(in Input) kubeproxy.KubeProxyConfiguration {
	c := kubeproxy.KubeProxyConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: "kubeproxy.config.k8s.io/v1alpha1", Kind: "KubeProxyConfiguration"},
		ClientConnection: v1alpha1.ClientConnectionConfiguration{
			Kubeconfig: filepath.Join(in.State.PKI(), pki.KubeconfigName(pki.KubeProxy)),
		},
		Mode: "nftables",
		// Whatever comes from elsewhere than a pod is hidden behind the node, so
		// that the answer finds its way back.
		ClusterCIDR: topology.PodNetwork.String(),
		// The limits of connection tracking belong to the whole machine.
		Conntrack: kubeproxy.KubeProxyConntrackConfiguration{
			MaxPerCore:            ptr.To[int32](0),
			Min:                   ptr.To[int32](0),
			TCPEstablishedTimeout: &metav1.Duration{},
			TCPCloseWaitTimeout:   &metav1.Duration{},
		},
	}
	if !in.Machine.MayRaisePriority {
		c.OOMScoreAdj = ptr.To[int32](0)
	}
	return c
}
