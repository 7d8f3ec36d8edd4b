// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestMain(m *testing.M) { Main(m) }

func TestClientKnowsThePlatform(t *testing.T) {
	c := Client(t)
	namespace := Namespace(t, c)
	address := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "address", Namespace: namespace},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: v1alpha2.IPAddressAuto},
	}
	if err := c.Create(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(address), address); err != nil {
		t.Fatal(err)
	}
}

func TestNamespacesDiffer(t *testing.T) {
	c := Client(t)
	if a, b := Namespace(t, c), Namespace(t, c); a == b {
		t.Errorf("two namespaces are called %s", a)
	}
}

func TestInstallServesOtherResources(t *testing.T) {
	preserve := true
	resource := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com",
			Scope: apiextensionsv1.ClusterScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{
				Plural: "things", Singular: "thing", Kind: "Thing", ListKind: "ThingList",
			},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: &preserve,
				}},
			}},
		},
	}
	for range 2 {
		Install(t, resource)
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "ThingList"})
	if err := Client(t).List(t.Context(), list); err != nil {
		t.Error(err)
	}
}

func TestStartExplainsMissingBinaries(t *testing.T) {
	for name, test := range map[string]struct {
		assets string
		want   []string
	}{
		"unset":           {"", []string{"KUBEBUILDER_ASSETS is not set", "make test"}},
		"empty directory": {t.TempDir(), []string{"KUBEBUILDER_ASSETS=", "etcd"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(assetsVariable, test.assets)
			_, _, err := start()
			if err == nil {
				t.Fatal("start succeeded without binaries")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
}

func TestResourceFilesLeaveOutTwins(t *testing.T) {
	files, err := resourceFiles()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(file string) bool { return filepath.Base(file) == "virtualmachines.yaml" }) {
		t.Errorf("virtualmachines.yaml is not among %v", files)
	}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), "doc-ru-") {
			t.Errorf("%s is a twin", file)
		}
	}
}

func TestResourceDirectoryExplainsAbsence(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := resourceDirectory(); err == nil || !strings.Contains(err.Error(), "make generate") {
		t.Errorf("error = %v, want one that names the remedy", err)
	}
}
