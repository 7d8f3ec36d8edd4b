// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission tries the module's admission policy on a real kube-apiserver.
package admission

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/cdi"
	"github.com/deckhouse/virtualization/internal/testing/engine"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// apply installs the policy, filling in what Helm would.
func apply(t *testing.T, admin client.Client) {
	t.Helper()
	template, err := os.ReadFile("../../templates/admission/engine-objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(template), "\n---\n")
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "helm_lib_module_labels") {
			lines = append(lines, strings.ReplaceAll(line, "{{ $namespace }}", "d8-virtualization"))
		}
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(strings.Join(lines, "")), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// as is a client of somebody who may do everything, as far as RBAC is concerned.
func as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	config := apiserver.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	out, err := client.New(config, client.Options{Scheme: apiserver.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kinds of objects that only the module writes, and one that is everybody's.
var (
	machine    = schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachine"}
	guest      = schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"}
	dataVolume = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume"}
	settings   = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
)

func object(kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(kind)
	out.SetNamespace(namespace)
	out.SetName(name)
	if kind.Group != "" {
		_ = unstructured.SetNestedMap(out.Object, map[string]any{}, "spec")
	}
	return out
}

func TestWhoWritesTheEnginesObjects(t *testing.T) {
	apiserver.Install(t, append(engine.Resources(), cdi.Resources()...)...)
	admin := apiserver.Client(t)
	namespace := apiserver.Namespace(t, admin)
	everything := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everything-to-everybody"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:authenticated"}},
	}
	if err := admin.Create(t.Context(), everything); err != nil {
		t.Fatal(err)
	}
	apply(t, admin)
	waitForPolicy(t, as(t, "alice"), namespace)
	for _, test := range []writer{
		{title: "a user", user: "alice"},
		{title: "an administrator", user: "root", groups: []string{"kubeadm:cluster-admins"}},
		{title: "breaking glass", user: "root", groups: []string{"system:masters"}, may: "cud"},
		account("the controller", "d8-virtualization", "virtualization-controller", "cud"),
		account("KubeVirt", "d8-virtualization", "kubevirt-controller", "cud"),
		account("CDI", "d8-virtualization", "cdi-sa", "cud"),
		account("Deckhouse", "d8-system", "deckhouse", "cud"),
		account("another of Deckhouse", "d8-system", "webhook-handler", ""),
		account("a user's program", "default", "virtualization-controller", ""),
		account("the garbage collector", "kube-system", "generic-garbage-collector", "cud"),
		account("the end of namespaces", "kube-system", "namespace-controller", "d"),
		account("another of Kubernetes", "kube-system", "job-controller", ""),
		{title: "who calls herself an account", user: "system:serviceaccount:d8-virtualization:kubevirt-controller"},
	} {
		t.Run(test.title, func(t *testing.T) {
			who := as(t, test.user, test.groups...)
			for _, kind := range []schema.GroupVersionKind{machine, guest, dataVolume} {
				if may := attempts(t, admin, who, kind, namespace); may != test.may {
					t.Errorf("%s: may %q, want %q", kind.Kind, may, test.may)
				}
			}
			if may := attempts(t, admin, who, settings, namespace); may != "cud" {
				t.Errorf("ConfigMap: may %q", may)
			}
		})
	}
}

// writer is somebody who tries.
type writer struct {
	title  string
	user   string
	groups []string
	// may lists what is let through: c, u and d for creating, updating and deleting.
	may string
}

func account(title, namespace, name, may string) writer {
	return writer{
		title: title, user: "system:serviceaccount:" + namespace + ":" + name,
		groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}, may: may,
	}
}

// waitForPolicy waits until kube-apiserver has read the policy.
func waitForPolicy(t *testing.T, alice client.Client, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := alice.Create(ctx, object(machine, namespace, "early"), client.DryRunAll)
		if apierrors.IsForbidden(err) {
			want := "objects of kubevirt.io belong to the virtualization module, and alice may only read them: " +
				"change the VirtualMachine or VirtualDisk in virtualization.deckhouse.io that they are made from"
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// attempts tells which of the writes somebody gets through.
func attempts(t *testing.T, admin, who client.Client, kind schema.GroupVersionKind, namespace string) string {
	t.Helper()
	may := ""
	note := func(letter string, err error) {
		t.Helper()
		switch {
		case err == nil:
			may += letter
		case !apierrors.IsForbidden(err):
			t.Fatalf("%s: %v", kind.Kind, err)
		}
	}
	note("c", who.Create(t.Context(), object(kind, namespace, "new"), client.DryRunAll))
	there := object(kind, namespace, "there")
	if err := admin.Create(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`))
	note("u", who.Patch(t.Context(), there.DeepCopy(), patch, client.DryRunAll))
	note("d", who.Delete(t.Context(), there.DeepCopy(), client.DryRunAll))
	if err := admin.Delete(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	return may
}
