// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID("uid-of-" + name)}
}

func diskNamed(name, claim string) *v1alpha2.VirtualDisk {
	disk := &v1alpha2.VirtualDisk{ObjectMeta: named(name)}
	disk.Status.Target.PersistentVolumeClaimName = claim
	return disk
}

func attachmentNamed(name, machine string, kind v1alpha2.BlockDeviceKind, device string) *v1alpha2.VirtualMachineBlockDeviceAttachment {
	return &v1alpha2.VirtualMachineBlockDeviceAttachment{ObjectMeta: named(name), Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
		VirtualMachineName: machine, BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: kind, Name: device},
	}}
}

// project is a machine with a disk of its own, two attachments, and what else can be attached.
func project(t *testing.T) client.Client {
	t.Helper()
	machine := machineNamed("web", "Running")
	machine.Spec.BlockDeviceRefs = []v1alpha2.BlockDeviceRef{{Kind: "VirtualDisk", Name: "root"}}
	clusterImage := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian", UID: "uid-of-cvi"}}
	image := &v1alpha2.VirtualImage{ObjectMeta: named("tools")}
	foreign := diskNamed("foreign", "claim-of-foreign")
	foreign.Namespace = "other"
	return kubeWith(t, &machine, clusterImage, image, foreign,
		diskNamed("root", "d8v-vd-root"), diskNamed("data", "d8v-vd-data"), diskNamed("used", "d8v-vd-used"),
		diskNamed("vd-data", "d8v-vd-vd-data"),
		attachmentNamed("used-by-web", "web", "VirtualDisk", "used"),
		attachmentNamed("used-by-db", "db", "VirtualDisk", "data"))
}

func volumeAction(name string, kube client.Client) *actionStorage {
	for _, action := range actions(kube, nil) {
		if action.name == name {
			action.machines = kube
			return &action
		}
	}
	return nil
}

// devicesOf lists what attachments give to the machine web.
func devicesOf(t *testing.T, kube client.Client) string {
	t.Helper()
	list := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	if err := kube.List(t.Context(), list, client.InNamespace("team")); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, item := range list.Items {
		if item.Spec.VirtualMachineName == "web" {
			out = append(out, string(item.Spec.BlockDeviceRef.Kind)+" "+item.Spec.BlockDeviceRef.Name)
		}
	}
	return strings.Join(out, ", ")
}

func TestAddVolume(t *testing.T) {
	for _, test := range []struct{ title, query, body, want string }{
		{"as clients of this API do", "name=vd-data&volumeKind=VirtualDisk&pvcName=d8v-vd-data&serial=&isCdrom=false", "", "VirtualDisk data"},
		{"with the serial number", "name=vd-data&volumeKind=VirtualDisk&pvcName=d8v-vd-data&serial=d3b9bb0f9b80fbb1e165fddea59140ea", "", "VirtualDisk data"},
		{"by the name of the volume", "name=vd-data", "", "VirtualDisk data"},
		{"by the name of the disk", "name=data&volumeKind=VirtualDisk", "", "VirtualDisk data"},
		{"a disk that is called like a volume", "name=vd-vd-data", "", "VirtualDisk vd-data"},
		{"an image", "name=vi-tools&volumeKind=VirtualImage&image=dvcr/vi/team/tools:1", "", "VirtualImage tools"},
		{"an image of the cluster", "name=cvi-debian&volumeKind=ClusterVirtualImage", "", "ClusterVirtualImage debian"},
		{"as KubeVirt's clients do", "", `{"name":"d8v-vd-data","disk":{},"volumeSource":{"persistentVolumeClaim":{"claimName":"d8v-vd-data"}}}`, "VirtualDisk data"},
		{"by a data volume", "", `{"name":"d8v-vd-data","disk":{},"volumeSource":{"dataVolume":{"name":"d8v-vd-data"}}}`, "VirtualDisk data"},
		{"only tried", "name=vd-data", `{"dryRun":["All"]}`, ""},
	} {
		t.Run(test.title, func(t *testing.T) {
			kube := project(t)
			resp := serve(t, volumeAction("addvolume", kube), test.query, test.body)
			if resp.StatusCode != http.StatusAccepted {
				expectStatus(t, resp, http.StatusAccepted, "")
			}
			want := "VirtualDisk used"
			if test.want != "" {
				want += ", " + test.want
			}
			if got := sorted(devicesOf(t, kube)); got != sorted(want) {
				t.Errorf("attached are %s; want %s", got, want)
			}
		})
	}
}

func sorted(list string) string {
	parts := strings.Split(list, ", ")
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func TestAddVolumeTellsForWhom(t *testing.T) {
	kube := project(t)
	machine := &v1alpha2.VirtualMachine{}
	if err := kube.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "web"}, machine); err != nil {
		t.Fatal(err)
	}
	ctx := genericapirequest.WithUser(context.Background(), &user.DefaultInfo{Name: "alice"})
	if err := (volumes{kube}).add(ctx, machine, order{query: map[string][]string{"name": {"vd-data"}}}); err != nil {
		t.Fatal(err)
	}
	list := &v1alpha2.VirtualMachineBlockDeviceAttachmentList{}
	if err := kube.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		if item.GenerateName == "web-" && item.Annotations["virtualization.deckhouse.io/added-by"] == "alice" {
			return
		}
	}
	t.Errorf("no attachment tells of alice: %+v", list.Items)
}

func TestAddVolumeRefuses(t *testing.T) {
	for _, test := range []struct {
		query, body string
		code        int
		want        string
	}{
		{"", "", 400, "name=: name the volume, such as vd-data for the VirtualDisk data"},
		{"", "[]", 400, "the body is not what this subresource takes"},
		{"name=vd-nothing", "", 400, "name=vd-nothing: there is no such VirtualDisk or image here"},
		{"name=vd-foreign", "", 400, "name=vd-foreign: there is no such VirtualDisk or image here"},
		{"name=vd-data&volumeKind=VirtualImage", "", 400, "name=vd-data: there is no such VirtualDisk or image here"},
		{"name=vd-data&volumeKind=Secret", "", 400, "volumeKind=Secret: use VirtualDisk, VirtualImage or ClusterVirtualImage"},
		{"name=vd-data&pvcName=d8v-vd-root", "", 400, "name=vd-data with pvcName=d8v-vd-root: there is no such VirtualDisk"},
		{"name=other&pvcName=d8v-vd-data", "", 400, "name=other with pvcName=d8v-vd-data: there is no such VirtualDisk"},
		{"name=vd-data&isCdrom=true", "", 400, "isCdrom=true: a guest that runs gets no CD-ROMs; use false"},
		{"name=vd-data&isCdrom=perhaps", "", 400, "isCdrom=perhaps: "},
		{"name=vd-data&serial=123", "", 400, "serial=123: the guest sees VirtualDisk data with the serial number"},
		{"name=vd-data", `{"dryRun":["some"]}`, 400, "dryRun: some: use All"},
		{"name=vd-root", "", 409, "spec.blockDeviceRefs of VirtualMachine team/web names VirtualDisk root already"},
		{"name=vd-used", "", 409, "VirtualMachineBlockDeviceAttachment used-by-web, which is older, attaches VirtualDisk used to the machine"},
	} {
		t.Run(test.query+test.body, func(t *testing.T) {
			kube := project(t)
			expectStatus(t, serve(t, volumeAction("addvolume", kube), test.query, test.body), test.code, test.want)
			if got := devicesOf(t, kube); got != "VirtualDisk used" {
				t.Errorf("attached are %s", got)
			}
		})
	}
}

func TestRemoveVolume(t *testing.T) {
	for _, test := range []struct{ query, body, left string }{
		{"name=vd-used", "", ""},
		{"name=used", "", ""},
		{"name=d8v-vd-used", "", ""},
		{"", `{"name":"vd-used"}`, ""},
		{"name=vd-used", `{"dryRun":["All"]}`, "VirtualDisk used"},
	} {
		t.Run(test.query+test.body, func(t *testing.T) {
			kube := project(t)
			if resp := serve(t, volumeAction("removevolume", kube), test.query, test.body); resp.StatusCode != http.StatusAccepted {
				expectStatus(t, resp, http.StatusAccepted, "")
			}
			if got := devicesOf(t, kube); got != test.left {
				t.Errorf("attached are %q, want %q", got, test.left)
			}
		})
	}
}

func TestRemoveVolumeRefuses(t *testing.T) {
	for _, test := range []struct {
		query string
		code  int
		want  string
	}{
		{"", 400, "name=: name the volume to remove"},
		{"name=vd-root", 409, "volume vd-root is in the machine's spec: take VirtualDisk root out of spec.blockDeviceRefs"},
		{"name=vd-data", 409, "the machine has no attachment of a volume vd-data"},
	} {
		t.Run(test.query, func(t *testing.T) {
			expectStatus(t, serve(t, volumeAction("removevolume", project(t)), test.query, ""), test.code, test.want)
		})
	}
}
