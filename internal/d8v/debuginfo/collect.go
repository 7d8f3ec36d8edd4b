// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package debuginfo reads what is known of a machine and takes the secrets out of it.
package debuginfo

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// logLimit is the most that is kept of a container's log, in bytes.
const logLimit = 8 << 20

// Collection is what has been read of a machine.
type Collection struct {
	objects client.Client
	cluster kubernetes.Interface
	secrets scrubber
	files   map[string]string
	missing []string
	// seen are the objects whose events are wanted, as Kind/name.
	seen map[string]bool
}

// Collect reads a machine and what it refers to. What cannot be read is listed, apart
// from the machine itself.
func Collect(ctx context.Context, objects client.Client, cluster kubernetes.Interface, key client.ObjectKey) (*Collection, error) {
	collected := &Collection{objects: objects, cluster: cluster, files: map[string]string{}, seen: map[string]bool{}}
	machine := &v1alpha2.VirtualMachine{}
	if err := objects.Get(ctx, key, machine); err != nil {
		return nil, err
	}
	collected.machine(ctx, machine)
	collected.engine(ctx, key)
	collected.pods(ctx, key)
	collected.events(ctx, key.Namespace)
	return collected, ctx.Err()
}

// machine reads the machine and what it refers to.
func (d *Collection) machine(ctx context.Context, machine *v1alpha2.VirtualMachine) {
	namespace := machine.Namespace
	own := func(kind string) schema.GroupVersionKind { return v1alpha2.SchemeGroupVersion.WithKind(kind) }
	d.get(ctx, own("VirtualMachine"), namespace, machine.Name)
	d.get(ctx, own("VirtualMachineClass"), "", machine.Spec.VirtualMachineClassName)
	if name := machine.Status.VirtualMachineIPAddressName; name != "" {
		d.get(ctx, own("VirtualMachineIPAddress"), namespace, name)
	}
	for _, device := range machine.Spec.BlockDeviceRefs {
		d.device(ctx, namespace, string(device.Kind), device.Name)
	}
	for _, device := range machine.Status.BlockDeviceRefs {
		d.device(ctx, namespace, string(device.Kind), device.Name)
	}
	ofMachine := func(object *unstructured.Unstructured) bool {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "virtualMachineName")
		return name == machine.Name
	}
	d.list(ctx, own("VirtualMachineOperation"), namespace, ofMachine)
	d.list(ctx, own("VirtualMachineBlockDeviceAttachment"), namespace, ofMachine)
}

// device reads a disk or image, what it was made from, and its volume.
func (d *Collection) device(ctx context.Context, namespace, kind, name string) {
	if kind == "ClusterVirtualImage" {
		namespace = ""
	}
	object := d.get(ctx, v1alpha2.SchemeGroupVersion.WithKind(kind), namespace, name)
	if object == nil {
		return
	}
	if claim, _, _ := unstructured.NestedString(object.Object, "status", "target", "persistentVolumeClaimName"); claim != "" {
		d.get(ctx, corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), namespace, claim)
	}
	source, _, _ := unstructured.NestedStringMap(object.Object, "spec", "dataSource", "objectRef")
	if source["name"] != "" && !d.seen[source["kind"]+"/"+source["name"]] {
		d.device(ctx, namespace, source["kind"], source["name"])
	}
}

func (d *Collection) engine(ctx context.Context, key client.ObjectKey) {
	kubevirt := schema.GroupVersion{Group: "kubevirt.io", Version: "v1"}
	d.get(ctx, kubevirt.WithKind("VirtualMachine"), key.Namespace, key.Name)
	d.get(ctx, kubevirt.WithKind("VirtualMachineInstance"), key.Namespace, key.Name)
	d.list(ctx, kubevirt.WithKind("VirtualMachineInstanceMigration"), key.Namespace, func(object *unstructured.Unstructured) bool {
		name, _, _ := unstructured.NestedString(object.Object, "spec", "vmiName")
		return name == key.Name
	})
}

// pods reads the Pods that the guest runs in, those that hold its hot-plugged volumes,
// and their logs.
func (d *Collection) pods(ctx context.Context, key client.ObjectKey) {
	var launchers []string
	ofGuest := func(pod *unstructured.Unstructured) bool {
		if pod.GetLabels()["vm.kubevirt.io/name"] == key.Name {
			launchers = append(launchers, pod.GetName())
			return true
		}
		return false
	}
	found := d.list(ctx, corev1.SchemeGroupVersion.WithKind("Pod"), key.Namespace, ofGuest)
	found = append(found, d.list(ctx, corev1.SchemeGroupVersion.WithKind("Pod"), key.Namespace, func(pod *unstructured.Unstructured) bool {
		for _, owner := range pod.GetOwnerReferences() {
			if owner.Kind == "Pod" && slices.Contains(launchers, owner.Name) {
				return true
			}
		}
		return false
	})...)
	for _, pod := range found {
		for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
			containers, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
			for _, container := range containers {
				if status, ok := container.(map[string]any); ok {
					d.logs(ctx, pod, status)
				}
			}
		}
	}
}

func (d *Collection) logs(ctx context.Context, pod *unstructured.Unstructured, status map[string]any) {
	container, _ := status["name"].(string)
	restarts, _, _ := unstructured.NestedInt64(status, "restartCount")
	for _, previous := range []bool{false, true} {
		if previous && restarts == 0 {
			continue
		}
		name := fmt.Sprintf("logs/%s/%s.log", pod.GetName(), container)
		if previous {
			name = fmt.Sprintf("logs/%s/%s.previous.log", pod.GetName(), container)
		}
		text, err := d.cluster.CoreV1().Pods(pod.GetNamespace()).GetLogs(pod.GetName(), &corev1.PodLogOptions{
			Container: container, Previous: previous, Timestamps: true, LimitBytes: ptr.To[int64](logLimit),
		}).DoRaw(ctx)
		if err != nil {
			d.missing = append(d.missing, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		d.files[name] = string(text)
	}
}

// events reads those of everything that was read.
func (d *Collection) events(ctx context.Context, namespace string) {
	d.list(ctx, corev1.SchemeGroupVersion.WithKind("Event"), namespace, func(event *unstructured.Unstructured) bool {
		about, _, _ := unstructured.NestedStringMap(event.Object, "involvedObject")
		return d.seen[about["kind"]+"/"+about["name"]]
	})
}

func (d *Collection) get(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	if name == "" || d.files[fileOf(kind, name)] != "" {
		return nil
	}
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(kind)
	if err := d.objects.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		d.missing = append(d.missing, fmt.Sprintf("%s %s: %v", kind.Kind, name, err))
		return nil
	}
	d.add(kind, object)
	return object
}

func (d *Collection) list(ctx context.Context, kind schema.GroupVersionKind, namespace string, wanted func(*unstructured.Unstructured) bool) []*unstructured.Unstructured {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := d.objects.List(ctx, list, client.InNamespace(namespace)); err != nil {
		if problem := fmt.Sprintf("%s of %s: %v", kind.Kind, namespace, err); !slices.Contains(d.missing, problem) {
			d.missing = append(d.missing, problem)
		}
		return nil
	}
	var found []*unstructured.Unstructured
	for i := range list.Items {
		if object := &list.Items[i]; wanted(object) {
			object.SetGroupVersionKind(kind)
			d.add(kind, object)
			found = append(found, object)
		}
	}
	return found
}

// add keeps an object without its secrets.
func (d *Collection) add(kind schema.GroupVersionKind, object *unstructured.Unstructured) {
	d.seen[kind.Kind+"/"+object.GetName()] = true
	d.secrets.object(object.Object)
	text, err := yaml.Marshal(object.Object)
	if err != nil {
		d.missing = append(d.missing, fmt.Sprintf("%s %s: %v", kind.Kind, object.GetName(), err))
		return
	}
	d.files[fileOf(kind, object.GetName())] = string(text)
}

// fileOf is the path of an object among the files; two groups have a kind VirtualMachine.
func fileOf(kind schema.GroupVersionKind, name string) string {
	folder := strings.ToLower(kind.Kind)
	if kind.Group == "kubevirt.io" {
		folder = "kubevirt/" + folder
	}
	return folder + "/" + name + ".yaml"
}

// Missing lists what could not be read, and why.
func (d *Collection) Missing() []string { return d.missing }

// Files are the files as they leave the cluster, without secrets.
func (d *Collection) Files() map[string]string {
	out := make(map[string]string, len(d.files)+1)
	for name, text := range d.files {
		out[name] = d.secrets.text(text)
	}
	if len(d.missing) > 0 {
		out["not-collected.txt"] = d.secrets.text(strings.Join(d.missing, "\n") + "\n")
	}
	return out
}
