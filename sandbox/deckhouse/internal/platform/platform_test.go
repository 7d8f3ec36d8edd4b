// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestGlobalHasTheShapeThatModulesRead(t *testing.T) {
	values := Values{
		Cluster: Cluster{
			Domain: "cluster.local", DNSAddress: "10.96.0.10", PodSubnet: "10.244.0.0/16",
			ServiceSubnet: "10.96.0.0/16", DeckhouseVersion: "1.74.2",
		},
		Facts: Facts{
			UUID: "u-1", KubernetesVersion: "v1.34.4", MasterCount: 1,
			NodeCountByRole: map[string]int{"master": 1}, DefaultStorageClass: "sandbox",
		},
		Registry: Registry{Base: "registry.example/modules", Scheme: "HTTPS", DockerCfg: "e30="},
		Module:   "virtualization",
		Digests:  Digests{"dvcr": "sha256:1"},
		User:     map[string]any{"modules": map[string]any{"publicDomainTemplate": "%s.example.com"}},
	}
	want := `{
	  "clusterIsBootstrapped": true,
	  "deckhouseEdition": "CE",
	  "deckhouseVersion": "1.74.2",
	  "discovery": {
	    "clusterControlPlaneIsHighlyAvailable": false,
	    "clusterDNSAddress": "10.96.0.10",
	    "clusterDomain": "cluster.local",
	    "clusterMasterCount": 1,
	    "clusterUUID": "u-1",
	    "d8SpecificNodeCountByRole": {"master": 1},
	    "defaultStorageClass": "sandbox",
	    "kubernetesVersion": "1.34.4",
	    "kubernetesVersions": ["1.34.4"],
	    "podSubnet": "10.244.0.0/16",
	    "serviceSubnet": "10.96.0.0/16"
	  },
	  "enabledModules": [],
	  "modules": {
	    "https": {"mode": "Disabled"},
	    "ingressClass": "nginx",
	    "placement": {},
	    "publicDomainTemplate": "%s.example.com"
	  },
	  "modulesImages": {
	    "digests": {"virtualization": {"dvcr": "sha256:1"}},
	    "registry": {"CA": "", "base": "registry.example/modules", "dockercfg": "e30=", "scheme": "HTTPS"}
	  }
	}`
	var wanted map[string]any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if got := values.Global(); !reflect.DeepEqual(got, wanted) {
		raw, _ := json.MarshalIndent(got, "", "  ")
		t.Errorf("got %s", raw)
	}
}

func TestModulesAreReachedFromOutside(t *testing.T) {
	tests := []struct {
		name, domain, secret string
		want                 map[string]any
	}{
		{"not at all", "", "", map[string]any{"https": map[string]any{"mode": "Disabled"}, "publicDomainTemplate": ""}},
		{
			"without TLS", "example.com", "",
			map[string]any{"https": map[string]any{"mode": "Disabled"}, "publicDomainTemplate": "%s.example.com"},
		},
		{
			"with a certificate", "example.com", "ingress-tls",
			map[string]any{
				"https":                map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": "ingress-tls"}},
				"publicDomainTemplate": "%s.example.com",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values := Values{Cluster: Cluster{PublicDomain: test.domain, CertificateSecret: test.secret}}
			modules, _ := values.Global()["modules"].(map[string]any)
			for key, want := range test.want {
				if got := modules[key]; !reflect.DeepEqual(got, want) {
					t.Errorf("%s = %v, want %v", key, got, want)
				}
			}
		})
	}
}

func TestReadDigests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images_digests.json")
	if _, err := ReadDigests(path); err == nil {
		t.Error("a missing file gave no error")
	}
	for text, want := range map[string]Digests{
		`{"dvcr":"sha256:1"}`: {"dvcr": "sha256:1"},
		`{"dvcr":`:            nil,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadDigests(path)
		if !reflect.DeepEqual(got, want) || (want == nil) != (err != nil) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}

func node(labels ...string) *corev1.Node {
	made := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}}}
	for _, label := range labels {
		made.Labels[label] = ""
	}
	return made
}

func TestCountNodes(t *testing.T) {
	masters, byRole := CountNodes([]*corev1.Node{
		node("node-role.kubernetes.io/control-plane", "node-role.deckhouse.io/control-plane"),
		node("node-role.deckhouse.io/system"),
		node("node-role.deckhouse.io/system", "kubernetes.io/os"),
	})
	if masters != 1 || !reflect.DeepEqual(byRole, map[string]int{"master": 1, "system": 2}) {
		t.Errorf("got %d, %v", masters, byRole)
	}
}

func class(name, mark string, age time.Duration) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name:              name,
		Annotations:       map[string]string{"storageclass.kubernetes.io/is-default-class": mark},
		CreationTimestamp: metav1.NewTime(time.Unix(1_000_000, 0).Add(-age)),
	}}
}

func TestDefaultClass(t *testing.T) {
	tests := []struct {
		name    string
		classes []*storagev1.StorageClass
		want    string
	}{
		{"none", nil, ""},
		{"none marked", []*storagev1.StorageClass{class("a", "false", 0)}, ""},
		{"the newest one", []*storagev1.StorageClass{class("old", "true", time.Hour), class("new", "true", 0)}, "new"},
		{"by name where equally old", []*storagev1.StorageClass{class("b", "true", 0), class("a", "true", 0)}, "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := DefaultClass(test.classes); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
