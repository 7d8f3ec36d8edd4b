// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func args(t *testing.T, objects []Object, name string) []string {
	t.Helper()
	return container(t, objects, name).Args
}

func container(t *testing.T, objects []Object, name string) corev1.Container {
	t.Helper()
	for _, w := range workloads(t, objects) {
		if w.GetName() == name {
			return w.Template.Spec.Containers[0]
		}
	}
	t.Fatalf("no workload %s was rendered", name)
	return corev1.Container{}
}

// at reads one field of an object.
func at(t *testing.T, object Object, path string) any {
	t.Helper()
	value, _, err := unstructured.NestedFieldNoCopy(object.Object, strings.Split(path, ".")...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestArguments(t *testing.T) {
	tests := []struct {
		c        string
		workload string
		want     []string
		unwanted []string
	}{
		{
			c: "least settings", workload: "virtualization-controller",
			want: []string{
				"--namespace=d8-virtualization",
				"--leader-elect",
				"--webhook-address=:9443",
				"--dvcr-address=dvcr.d8-virtualization.svc",
				"--report-url=https://virtualization-controller.d8-virtualization.svc/reports",
				"--software-emulation=false",
				"--virtual-machine-cidrs=10.66.10.0/24,10.66.20.0/24",
				"--metrics-address=:8080",
				"--log-level=info",
				"--log-format=text",
				"--refuse-networks=127.0.0.0/8,10.222.0.0/16",
			},
			unwanted: []string{
				"--default-disk-storage-class", "--allowed-disk-storage-classes",
				"--default-image-storage-class", "--allowed-image-storage-classes",
			},
		},
		{c: "software emulation", workload: "virtualization-controller", want: []string{"--software-emulation=true"}},
		{
			c: "storage classes", workload: "virtualization-controller",
			want: []string{
				"--default-disk-storage-class=fast", "--allowed-disk-storage-classes=fast,slow",
				"--default-image-storage-class=cold", "--allowed-image-storage-classes=cold,slow",
			},
		},
		{c: "least settings", workload: "vm-router", want: []string{"--virtual-machine-cidrs=10.66.10.0/24,10.66.20.0/24", "--health-address=127.0.0.1:4205"}},
		{c: "least settings", workload: "dvcr", want: []string{"--address=:5000", "--root=/var/lib/registry", "--gc-schedule=0 * * * *"}},
		{c: "registry tuned", workload: "dvcr", want: []string{"--gc-schedule=30 3 * * *"}},
		{c: "least settings", workload: "virtualization-api", want: []string{"--secure-port=8443"}},
		{c: "logs for machines", workload: "virtualization-controller", want: []string{"--log-level=debug", "--log-format=json"}},
		{c: "logs for machines", workload: "virtualization-api", want: []string{"--log-level=debug", "--log-format=json"}},
		{c: "logs for machines", workload: "vm-router", want: []string{"--log-level=debug", "--log-format=json"}},
		{c: "logs for machines", workload: "dvcr", want: []string{"--log-level=debug", "--log-format=json"}},
		{c: "logs for machines", workload: "virt-operator", want: []string{"-v", "2"}},
		{c: "least settings", workload: "virtualization-api", unwanted: []string{"--audit"}},
		{c: "audited", workload: "virtualization-api", want: []string{"--audit"}},
		{c: "images in a bucket", workload: "dvcr", want: []string{"--s3-settings-dir=/etc/dvcr-object-storage"}, unwanted: []string{"--root"}},
	}
	for _, test := range tests {
		t.Run(test.c+": "+test.workload, func(t *testing.T) {
			got := args(t, render(t, matrix[test.c]), test.workload)
			for _, want := range test.want {
				if !slices.Contains(got, want) {
					t.Errorf("%s is not among %v", want, got)
				}
			}
			for _, unwanted := range test.unwanted {
				if slices.ContainsFunc(got, func(arg string) bool { return strings.HasPrefix(arg, unwanted) }) {
					t.Errorf("%s is among %v", unwanted, got)
				}
			}
		})
	}
}

func TestReplicas(t *testing.T) {
	tests := []struct {
		c                    string
		controller, operator int64
		engine               float64
		apart                bool
	}{
		{c: "least settings", controller: 1, operator: 1, engine: 1},
		{c: "high availability by setting", controller: 2, operator: 2, engine: 2, apart: true},
		{c: "high availability by three control planes", controller: 3, operator: 2, engine: 2, apart: true},
	}
	for _, test := range tests {
		t.Run(test.c, func(t *testing.T) {
			objects := render(t, matrix[test.c])
			for name, want := range map[string]int64{
				"virtualization-controller": test.controller, "virtualization-api": test.controller,
				"virt-operator": test.operator, "cdi-operator": test.operator, "dvcr": 1,
			} {
				if got := number(t, at(t, find(t, objects, "Deployment", name), "spec.replicas")); got != float64(want) {
					t.Errorf("replicas of %s = %v, want %d", name, got, want)
				}
			}
			if got := number(t, at(t, find(t, objects, "KubeVirt", "kubevirt"), "spec.infra.replicas")); got != test.engine {
				t.Errorf("replicas of the engine = %v, want %v", got, test.engine)
			}
			apart := at(t, find(t, objects, "Deployment", "virtualization-controller"), "spec.template.spec.affinity") != nil
			if apart != test.apart {
				t.Errorf("replicas are kept apart = %v, want %v", apart, test.apart)
			}
		})
	}
}

// number takes whatever the decoder made of a number.
func number(t *testing.T, value any) float64 {
	t.Helper()
	switch value := value.(type) {
	case int64:
		return float64(value)
	case float64:
		return value
	}
	t.Fatalf("%v is no number", value)
	return 0
}

func TestEmulation(t *testing.T) {
	const patch = `{"spec":{"template":{"spec":{"initContainers":[{"env":[{"name":"PREFERRED_VIRTTYPE","value":"qemu"},` +
		`{"name":"HYPERVISOR_DEVICE","value":"no-kvm"}],"name":"virt-launcher"}]}}}}`

	on := find(t, render(t, matrix["software emulation"]), "KubeVirt", "kubevirt")
	if at(t, on, "spec.configuration.developerConfiguration.useEmulation") != true {
		t.Error("emulation is off though it was asked for")
	}
	patches, _ := at(t, on, "spec.customizeComponents.patches").([]any)
	if len(patches) != 2 || patches[1].(map[string]any)["patch"] != patch {
		t.Errorf("patches = %v, want as the second one %s", patches, patch)
	}

	off := find(t, render(t, matrix["least settings"]), "KubeVirt", "kubevirt")
	if at(t, off, "spec.configuration.developerConfiguration.useEmulation") != false {
		t.Error("emulation is on though nobody asked for it")
	}
	if got, _ := at(t, off, "spec.customizeComponents.patches").([]any); len(got) != 1 {
		t.Errorf("patches = %v, want that for its security alone", got)
	}
}

func TestEngine(t *testing.T) {
	kubevirt := find(t, render(t, Case{}), "KubeVirt", "kubevirt")
	gates, _ := at(t, kubevirt, "spec.configuration.developerConfiguration.featureGates").([]any)
	if !slices.Contains(gates, any("DeclarativeHotplugVolumes")) || slices.Contains(gates, any("HotplugVolumes")) {
		t.Errorf("gates = %v, want DeclarativeHotplugVolumes and no HotplugVolumes", gates)
	}
	for path, want := range map[string]any{
		"spec.configuration.evictionStrategy":                          "LiveMigrate",
		"spec.configuration.vmRolloutStrategy":                         "LiveUpdate",
		"spec.configuration.roleAggregationStrategy":                   "Manual",
		"spec.imagePullPolicy":                                         "IfNotPresent",
		"spec.configuration.network.permitBridgeInterfaceOnPodNetwork": true,
	} {
		if got := at(t, kubevirt, path); got != want {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
	cdi := find(t, render(t, Case{}), "CDI", "cdi")
	if got, _ := at(t, cdi, "spec.config.featureGates").([]any); !slices.Contains(got, any("HonorWaitForFirstConsumer")) {
		t.Errorf("gates of CDI = %v, want HonorWaitForFirstConsumer", got)
	}
}

// Nothing may be derived from the operators' images: they have no names of their own, only digests.
func TestOperatorsKnowEveryImage(t *testing.T) {
	tests := map[string][]string{
		"virt-operator": {
			"VIRT_OPERATOR_IMAGE", "VIRT_API_IMAGE", "VIRT_CONTROLLER_IMAGE", "VIRT_HANDLER_IMAGE", "VIRT_LAUNCHER_IMAGE",
			"VIRT_EXPORTPROXY_IMAGE", "VIRT_EXPORTSERVER_IMAGE",
		},
		"cdi-operator": {
			"CONTROLLER_IMAGE", "IMPORTER_IMAGE", "CLONER_IMAGE", "APISERVER_IMAGE", "UPLOAD_SERVER_IMAGE", "UPLOAD_PROXY_IMAGE",
		},
	}
	objects := render(t, Case{})
	for name, variables := range tests {
		set := map[string]string{}
		for _, variable := range container(t, objects, name).Env {
			set[variable.Name] = variable.Value
		}
		values := map[string]bool{}
		for _, variable := range variables {
			if set[variable] == "" || values[set[variable]] {
				t.Errorf("%s: %s = %q, want an image of its own", name, variable, set[variable])
			}
			values[set[variable]] = true
		}
	}
}

func TestRegistryVolume(t *testing.T) {
	tests := []struct {
		name  string
		c     Case
		size  string
		class any
	}{
		{name: "least settings", size: "10Gi"},
		{name: "class of the settings", c: matrix["storage classes"], size: "1Ti", class: "slow"},
		{
			name: "class of the platform", size: "10Gi", class: "platform",
			c: Case{Global: map[string]any{"modules": map[string]any{"storageClass": "platform"}}},
		},
		{
			name: "class that the volume has", size: "10Gi", class: "first",
			c: Case{
				Global:   map[string]any{"modules": map[string]any{"storageClass": "platform"}},
				Internal: map[string]any{"dvcr": map[string]any{"storageClassName": "first"}},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			claim := find(t, render(t, test.c), "PersistentVolumeClaim", "dvcr")
			if got := at(t, claim, "spec.resources.requests.storage"); got != test.size {
				t.Errorf("size = %v, want %s", got, test.size)
			}
			if got := at(t, claim, "spec.storageClassName"); got != test.class {
				t.Errorf("class = %v, want %v", got, test.class)
			}
		})
	}
}

// The registry's certificate names the address of its Service, so the Service has to come first.
func TestRegistryComesInTheSecondRun(t *testing.T) {
	first, second := render(t, matrix["first run"]), render(t, matrix["least settings"])
	if present(first, "dvcr") {
		t.Error("the registry is there before its certificate can be")
	}
	find(t, first, "Service", "dvcr")
	find(t, first, "Secret", "dvcr-secrets")
	if !present(second, "dvcr") {
		t.Error("the registry is missing")
	}
}

// The hooks read these Secrets back; what they find must be what they gave.
func TestSecretsHoldWhatTheHooksGave(t *testing.T) {
	const caText, caKeyText = "Q0EgUEVNCg==", "Q0EgS0VZIFBFTQo="
	tests := map[string]map[string]any{
		"virtualization-ca":             {"tls.crt": caText, "tls.key": caKeyText},
		"virtualization-controller-tls": {"ca.crt": caText, "tls.crt": "Q0VSVElGSUNBVEUgUEVNCg==", "tls.key": "S0VZIFBFTQo="},
		"virtualization-api-tls":        {"ca.crt": caText, "tls.crt": "Q0VSVElGSUNBVEUgUEVNCg==", "tls.key": "S0VZIFBFTQo="},
		"dvcr-tls":                      {"ca.crt": caText, "tls.crt": "Q0VSVElGSUNBVEUgUEVNCg==", "tls.key": "S0VZIFBFTQo="},
		"dvcr-secrets":                  {"tokenPrivateKey": "UFJJVkFURSBQRU0K", "tokenPublicKey": "UFVCTElDIFBFTQo=", "httpSecret": "aHVudGVyMg==", "pullToken": "UFVMTC5UTy5LRU4="},
	}
	objects := render(t, Case{})
	for name, want := range tests {
		got, _ := at(t, find(t, objects, "Secret", name), "data").(map[string]any)
		if len(got) != len(want) {
			t.Errorf("%s: keys %v, want %v", name, got, want)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s = %v, want %v", name, key, got[key], value)
			}
		}
	}
	if got := at(t, find(t, objects, "ConfigMap", "virtualization-ca"), "data").(map[string]any)["ca.crt"]; got != "CA PEM\n" {
		t.Errorf("the authority for pods = %q, want the certificate", got)
	}
	if got := at(t, find(t, objects, "Secret", "module-state"), "stringData").(map[string]any)["defaultClassCreated"]; got != "true" {
		t.Errorf("the state of the default class = %v, want true", got)
	}
}

// The registry must not be able to sign tokens, nor the controller's pods to see the registry's HTTP secret.
func TestKeysAreSplit(t *testing.T) {
	want := map[string][]string{
		"dvcr":                      {"tokenPublicKey", "httpSecret"},
		"virtualization-controller": {"tokenPrivateKey"},
	}
	for _, w := range workloads(t, render(t, Case{})) {
		for _, volume := range w.Template.Spec.Volumes {
			if volume.Secret == nil || volume.Secret.SecretName != "dvcr-secrets" {
				continue
			}
			var got []string
			for _, item := range volume.Secret.Items {
				got = append(got, item.Key)
			}
			if !slices.Equal(got, want[w.GetName()]) {
				t.Errorf("%s sees %v, want %v", w.GetName(), got, want[w.GetName()])
			}
		}
	}
}

func TestPlatform(t *testing.T) {
	t.Run("dedicated nodes", func(t *testing.T) {
		objects := render(t, matrix["nodes for the system"])
		got, _ := at(t, find(t, objects, "Deployment", "dvcr"), "spec.template.spec.nodeSelector").(map[string]any)
		if _, found := got["node-role.deckhouse.io/system"]; !found {
			t.Errorf("node selector = %v, want the system's nodes", got)
		}
	})
	t.Run("no registry password", func(t *testing.T) {
		secret := find(t, render(t, matrix["bare platform"]), "Secret", "virtualization-module-registry")
		if got := at(t, secret, "data").(map[string]any)[".dockerconfigjson"]; got != "eyJhdXRocyI6e319" {
			t.Errorf("pull secret = %v, want an empty configuration", got)
		}
	})
	t.Run("registry of the platform", func(t *testing.T) {
		objects := render(t, Case{Settings: map[string]any{"registry": map[string]any{}}})
		if got := container(t, objects, "dvcr").Image; !strings.HasPrefix(got, "registry.example.com/deckhouse/virtualization@sha256:") {
			t.Errorf("image = %s, want one of the platform's registry", got)
		}
	})
}
