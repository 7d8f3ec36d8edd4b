// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubernetesfake "k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const userData = `#cloud-config
users:
  - name: user
    plain_text_passwd: correct horse battery staple
`

// cluster is what stands around the machine web: its parts, and neighbours that are
// none of its.
const cluster = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachine
metadata:
  name: web
  namespace: team
  managedFields: [{manager: kubectl, operation: Update, apiVersion: virtualization.deckhouse.io/v1alpha2, fieldsType: FieldsV1, fieldsV1: {}}]
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"userData":"correct horse battery staple"}', note: kept}
spec:
  virtualMachineClassName: generic
  blockDeviceRefs: [{kind: VirtualDisk, name: root}, {kind: ClusterVirtualImage, name: tools}]
  provisioning:
    type: UserData
    userData: |
      #cloud-config
      users:
        - name: user
          plain_text_passwd: correct horse battery staple
status: {phase: Running, virtualMachineIPAddressName: web-ip}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineClass
metadata: {name: generic}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddress
metadata: {name: web-ip, namespace: team}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualDisk
metadata: {name: root, namespace: team}
spec: {dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: debian}}}
status: {target: {persistentVolumeClaimName: root-claim}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualImage
metadata: {name: debian, namespace: team}
spec: {dataSource: {type: HTTP, http: {url: "https://me:hunter2@example.com/debian.qcow2"}}}
status: {imageUploadURLs: {external: "https://example.com/upload/Zm9vYmFyYmF6", inCluster: "http://10.0.0.1/upload/Zm9vYmFyYmF6"}}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: ClusterVirtualImage
metadata: {name: tools}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineOperation
metadata: {name: web-stop, namespace: team}
spec: {type: Stop, virtualMachineName: web}
---
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineOperation
metadata: {name: db-stop, namespace: team}
spec: {type: Stop, virtualMachineName: db}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: web, namespace: team}
spec: {volumes: [{name: init, cloudInitNoCloud: {userDataBase64: BASE64}}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: root-claim, namespace: team}
---
apiVersion: v1
kind: Pod
metadata: {name: virt-launcher-web-x, namespace: team, labels: {vm.kubevirt.io/name: web}}
spec: {containers: [{name: compute, env: [{name: UPLOAD_TOKEN, value: swordfish-and-more}, {name: PLAIN, value: plain}]}]}
status: {containerStatuses: [{name: compute, restartCount: 1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: hp-volume-x, namespace: team, ownerReferences: [{apiVersion: v1, kind: Pod, name: virt-launcher-web-x, uid: "1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: neighbour, namespace: team}
---
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: team}
stringData: {userData: secret}
---
apiVersion: v1
kind: Event
metadata: {name: web.1, namespace: team}
involvedObject: {kind: VirtualMachine, name: web}
message: "could not run: plain_text_passwd: correct horse battery staple"
---
apiVersion: v1
kind: Event
metadata: {name: neighbour.1, namespace: team}
involvedObject: {kind: Pod, name: neighbour}
`

func objects(t *testing.T) []client.Object {
	t.Helper()
	var out []client.Object
	text := strings.ReplaceAll(cluster, "BASE64", base64.StdEncoding.EncodeToString([]byte(userData)))
	for _, document := range strings.Split(text, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		out = append(out, object)
	}
	return out
}

// reader is an API server where the kinds given may not be read.
func reader(t *testing.T, forbidden ...string) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"VirtualMachine", "VirtualMachineInstance", "VirtualMachineInstanceMigration"} {
		kubevirt := schema.GroupVersion{Group: "kubevirt.io", Version: "v1"}
		scheme.AddKnownTypeWithName(kubevirt.WithKind(kind), &unstructured.Unstructured{})
		scheme.AddKnownTypeWithName(kubevirt.WithKind(kind+"List"), &unstructured.UnstructuredList{})
	}
	refusal := func(object runtime.Object) error {
		kind := strings.TrimSuffix(object.GetObjectKind().GroupVersionKind().Kind, "List")
		if slices.Contains(forbidden, kind) {
			return apierrors.NewForbidden(schema.GroupResource{Resource: strings.ToLower(kind)}, "", errors.New("no right"))
		}
		return nil
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects(t)...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			return errors.Join(refusal(object), c.Get(ctx, key, object, options...))
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return errors.Join(refusal(list), c.List(ctx, list, options...))
		},
	}).Build()
}

var web = client.ObjectKey{Namespace: "team", Name: "web"}

func TestCollect(t *testing.T) {
	collected, err := Collect(t.Context(), reader(t), kubernetesfake.NewClientset(), web)
	if err != nil {
		t.Fatal(err)
	}
	files := collected.Files()
	want := []string{
		"clustervirtualimage/tools.yaml", "event/web.1.yaml", "kubevirt/virtualmachineinstance/web.yaml",
		"logs/virt-launcher-web-x/compute.log", "logs/virt-launcher-web-x/compute.previous.log", "not-collected.txt",
		"persistentvolumeclaim/root-claim.yaml", "pod/hp-volume-x.yaml", "pod/virt-launcher-web-x.yaml",
		"virtualdisk/root.yaml", "virtualimage/debian.yaml", "virtualmachine/web.yaml", "virtualmachineclass/generic.yaml",
		"virtualmachineipaddress/web-ip.yaml", "virtualmachineoperation/web-stop.yaml",
	}
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	// The fake cluster has no VirtualMachine of KubeVirt.
	if got := collected.Missing(); len(got) != 1 || !strings.Contains(got[0], `VirtualMachine web: virtualmachines.kubevirt.io "web" not found`) {
		t.Errorf("missing: %q", got)
	}
	for _, kept := range []string{"note: kept", "phase: Running", "type: UserData"} {
		if !strings.Contains(files["virtualmachine/web.yaml"], kept) {
			t.Errorf("%q is lost:\n%s", kept, files["virtualmachine/web.yaml"])
		}
	}
	if text := files["pod/virt-launcher-web-x.yaml"]; !strings.Contains(text, "value: plain") {
		t.Errorf("a plain variable is lost:\n%s", text)
	}
}

// Nothing of what only the guest, the uploader or a server may know is in any file.
func TestNoSecretLeaves(t *testing.T) {
	collected, err := Collect(t.Context(), reader(t), kubernetesfake.NewClientset(), web)
	if err != nil {
		t.Fatal(err)
	}
	collected.files["logs/x"] = "wrote plain_text_passwd: correct horse battery staple and swordfish-and-more to " +
		base64.StdEncoding.EncodeToString([]byte(userData)) + " and http://10.0.0.1/upload/Zm9vYmFyYmF6, http://a:b@example.com/c"
	for name, text := range collected.Files() {
		for _, secret := range []string{
			"correct horse", "hunter2", "Zm9vYmFyYmF6", "swordfish", "a:b@", base64.StdEncoding.EncodeToString([]byte(userData)),
			"last-applied", "managedFields",
		} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %q:\n%s", name, secret, text)
			}
		}
	}
	if got := collected.Files()["logs/x"]; got != "wrote REDACTED and REDACTED to REDACTED and REDACTED, http://REDACTED@example.com/c" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutRights(t *testing.T) {
	collected, err := Collect(t.Context(), reader(t, "Pod", "VirtualMachineInstance", "Event"), kubernetesfake.NewClientset(), web)
	if err != nil {
		t.Fatal(err)
	}
	files := collected.Files()
	if files["virtualdisk/root.yaml"] == "" || files["pod/virt-launcher-web-x.yaml"] != "" {
		t.Errorf("got %q", slices.Sorted(maps.Keys(files)))
	}
	for _, want := range []string{"Pod of team: ", "VirtualMachineInstance web: ", "Event of team: ", "no right"} {
		if !strings.Contains(files["not-collected.txt"], want) {
			t.Errorf("it does not say %q:\n%s", want, files["not-collected.txt"])
		}
	}
	if strings.Count(files["not-collected.txt"], "Pod of team") != 1 {
		t.Errorf("it repeats itself:\n%s", files["not-collected.txt"])
	}
	if _, err := Collect(t.Context(), reader(t), kubernetesfake.NewClientset(), client.ObjectKey{Namespace: "team", Name: "none"}); !apierrors.IsNotFound(err) {
		t.Errorf("a machine that is not there: %v", err)
	}
}

func TestSecretsThemselves(t *testing.T) {
	object := map[string]any{"kind": "Secret", "data": map[string]any{"a": "Yg=="}, "stringData": map[string]any{"c": "d"}, "type": "Opaque"}
	(&scrubber{}).object(object)
	if len(object) != 2 || object["type"] != "Opaque" {
		t.Errorf("got %v", object)
	}
}

func TestWrite(t *testing.T) {
	files := map[string]string{"a/b.yaml": "b\n", "c.txt": "c\n"}
	folder := t.TempDir()
	archive := filepath.Join(folder, "out.tar.gz")
	if err := Write(archive, files, nil); err != nil {
		t.Fatal(err)
	}
	if err := Write(archive, files, nil); err == nil || !strings.Contains(err.Error(), "remove it or give another name by --output") {
		t.Errorf("over a file that is there: %v", err)
	}
	written, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Write("-", files, &out); err != nil || !bytes.Equal(out.Bytes(), written) {
		t.Errorf("to the standard output: %v", err)
	}
	if got := unpack(t, written); !maps.Equal(got, files) {
		t.Errorf("got %q", got)
	}
	if err := Write(filepath.Join(folder, "out"), files, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "out", "a", "b.yaml")
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "b\n" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, path := range []string{archive, path} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
	if err := Write(archive+"/x", files, nil); err == nil {
		t.Error("a folder was made in a file")
	}
}

func unpack(t *testing.T, content []byte) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		out[header.Name] = string(text)
	}
}
