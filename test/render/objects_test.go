// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

// kindsOfOthers are no part of Kubernetes itself.
var kindsOfOthers = map[string]bool{
	"KubeVirt": true, "CDI": true, "APIService": true, "VerticalPodAutoscaler": true, "NodeGroupConfiguration": true,
	"Certificate": true, "PodMonitor": true, "PrometheusRule": true, "GrafanaDashboardDefinition": true,
	"SecurityPolicyException": true,
}

func TestObjectsAreWellFormed(t *testing.T) {
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	forEach(t, func(t *testing.T, objects []Object) {
		seen := map[string]string{}
		for _, object := range objects {
			id := object.GetKind() + " " + object.GetNamespace() + "/" + object.GetName()
			if other, twice := seen[id]; twice {
				t.Errorf("%s: rendered by %s and by %s", id, other, object.Template)
			}
			seen[id] = object.Template
			if kindsOfOthers[object.GetKind()] {
				continue
			}
			content, err := json.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := codecs.UniversalDeserializer().Decode(content, nil, nil); err != nil {
				t.Errorf("%s (%s): %v", id, object.Template, err)
			}
		}
	})
}

func TestObjectsAreOurs(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		for _, object := range objects {
			labels := object.GetLabels()
			if labels["heritage"] != "deckhouse" || labels["module"] != "virtualization" {
				t.Errorf("%s %s: labels %v, want heritage=deckhouse and module=virtualization", object.GetKind(), object.GetName(), labels)
			}
			namespace := object.GetNamespace()
			reader := object.GetName() == "d8:virtualization:virtualization-api:auth-reader" && namespace == "kube-system"
			// Beside the token by which Prometheus identifies itself.
			monitor := object.GetKind() == "PodMonitor" && namespace == "d8-monitoring"
			if namespace != "" && namespace != "d8-virtualization" && !reader && !monitor {
				t.Errorf("%s %s is in the namespace %s", object.GetKind(), object.GetName(), namespace)
			}
		}
	})
}

// A release is kept in one Secret, compressed; the API server takes a megabyte.
func TestReleaseFitsIntoASecret(t *testing.T) {
	loaded := loadChart(t)
	for _, file := range loaded.Files {
		// The chart itself reads the rules and dashboards.
		if strings.HasPrefix(file.Name, "monitoring/") {
			continue
		}
		t.Errorf("%s is no part of the chart: name it in .helmignore", file.Name)
	}
	objects := render(t, matrix["high availability by setting"])
	content, err := json.Marshal(map[string]any{"chart": loaded, "objects": objects})
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > 500_000 {
		t.Errorf("the release takes %d bytes, want at most 500000", packed.Len())
	}
}

func TestEngineObjectsFollowTheirSchemas(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		for _, test := range []struct{ kind, name, file string }{
			{kind: "KubeVirt", name: "kubevirt", file: "kubevirts.kubevirt.io.yaml"},
			{kind: "CDI", name: "cdi", file: "cdis.cdi.kubevirt.io.yaml"},
		} {
			schema, err := CustomResource(test.file)
			if err != nil {
				t.Fatal(err)
			}
			content := runtime.DeepCopyJSON(toJSON(t, find(t, objects, test.kind, test.name).Object))
			for _, problem := range Validate(schema, content) {
				t.Errorf("%s: %s", test.kind, problem)
			}
		}
	})
}

// The class that a hook creates is no part of the chart, but has to follow the schema just the same.
func TestDefaultClassFollowsItsSchema(t *testing.T) {
	schema, err := CustomResource("virtualmachineclasses.yaml")
	if err != nil {
		t.Fatal(err)
	}
	class := map[string]any{}
	if err := readYAML("hooks/defaultclass/generic.yaml", &class); err != nil {
		t.Fatal(err)
	}
	for _, problem := range Validate(schema, class) {
		t.Error(problem)
	}
}

func TestMissingValuesAreNamed(t *testing.T) {
	tests := []struct {
		name string
		c    Case
		want string
	}{
		{name: "authority", c: Case{Internal: map[string]any{"rootCA": nil}}, want: "the hook moduleca did not run"},
		{name: "certificate of the controller", c: Case{Internal: map[string]any{"controller": map[string]any{}}}, want: "the hook tlscontroller did not run"},
		{name: "certificate of the API", c: Case{Internal: map[string]any{"apiserver": map[string]any{}}}, want: "the hook tlsapi did not run"},
		{name: "networks", c: Case{Internal: map[string]any{"imageSources": map[string]any{}}}, want: "the hook sourcenetworks did not run"},
		{
			name: "certificate of the administrator",
			c:    Case{Settings: map[string]any{"https": map[string]any{"mode": "CustomCertificate"}}},
			want: "holds no Secret of the name in https.customCertificate.secretName",
		},
		{
			name: "public domain",
			c:    Case{Global: map[string]any{"modules": map[string]any{"publicDomainTemplate": "example.com"}}},
			want: `publicDomainTemplate is "example.com"`,
		},
		{
			name: "digest",
			c:    Case{Global: map[string]any{"modulesImages": map[string]any{"registry": map[string]any{"base": "x"}, "digests": map[string]any{}}}},
			want: "rebuild images_digests.json",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Render(loadChart(t), test.c)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one that says %q", err, test.want)
			}
		})
	}
}

// toJSON turns numbers into what a decoder of JSON makes of them, which is what validators expect.
func toJSON(t *testing.T, object map[string]any) map[string]any {
	t.Helper()
	content, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	decoded := map[string]any{}
	if err := json.Unmarshal(content, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}
