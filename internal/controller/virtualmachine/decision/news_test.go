// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Nodes come and go, and the class counts them; that is no reason to look at thousands
// of machines.
func TestFactsOfClass(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*v1alpha2.VirtualMachineClass)
		want   bool
	}{
		{"nodes counted", func(c *v1alpha2.VirtualMachineClass) {
			c.ResourceVersion = "2"
			c.Status.AvailableNodes = []string{"node-1", "node-2"}
			c.Status.MaxAllocatableResources = corev1.ResourceList{"cpu": resource.MustParse("8")}
			c.Status.Conditions[0].Message = "2 of 2 nodes can run machines of the class"
		}, false},
		{"spec", func(c *v1alpha2.VirtualMachineClass) { c.Generation = 2 }, true},
		{"default", func(c *v1alpha2.VirtualMachineClass) { c.Annotations = classNamed("", true, 0).Annotations }, true},
		{"phase", func(c *v1alpha2.VirtualMachineClass) { c.Status.Phase = "Terminating" }, true},
		{"what is wrong with it", func(c *v1alpha2.VirtualMachineClass) {
			c.Status.Conditions[0].Status, c.Status.Conditions[0].Message = "False", "No node has the features"
		}, true},
		{"features", func(c *v1alpha2.VirtualMachineClass) { c.Status.CPUFeatures.Enabled = []string{"avx"} }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := classNamed("fast", false, 0)
			before.Status.Phase = "Ready"
			before.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Message: "1 of 1 nodes can run machines of the class"}}
			after := before.DeepCopy()
			test.change(after)
			if got := factsOfClass(before) != factsOfClass(after); got != test.want {
				t.Errorf("wakes the machines: %t", got)
			}
		})
	}
	if factsOfClass(&corev1.Node{}) != (classFacts{}) {
		t.Error("a node is no class")
	}
}

// What an image tells of its other users, and a disk of its progress, wakes no machine.
func TestFactsOfDevice(t *testing.T) {
	disk := func(change func(*v1alpha2.VirtualDisk)) client.Object {
		out := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{UID: "disk-uid"}}
		out.Status.Phase, out.Status.Progress = "Provisioning", "10%"
		out.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Reason: "Provisioning", Message: "10 %"}}
		change(out)
		return out
	}
	image := func(change func(*v1alpha2.VirtualImage)) client.Object {
		out := &v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{UID: "image-uid"}}
		out.Status.Phase = "Ready"
		out.Status.Conditions = []metav1.Condition{{Type: "InUse", Status: "False"}}
		change(out)
		return out
	}
	clusterImage := func(change func(*v1alpha2.ClusterVirtualImage)) client.Object {
		out := &v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{UID: "image-uid"}}
		change(out)
		return out
	}
	sameDisk, sameImage := disk(func(*v1alpha2.VirtualDisk) {}), image(func(*v1alpha2.VirtualImage) {})
	sameClusterImage := clusterImage(func(*v1alpha2.ClusterVirtualImage) {})
	for _, test := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"a disk's progress", sameDisk, disk(func(d *v1alpha2.VirtualDisk) {
			d.Status.Progress, d.Status.Conditions[0].Message = "20%", "20 %"
		}), false},
		{"that a machine names a disk", sameDisk, disk(func(d *v1alpha2.VirtualDisk) {
			d.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: "web"}}
		}), false},
		{"that a machine has a disk", sameDisk, disk(func(d *v1alpha2.VirtualDisk) {
			d.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: "web", Mounted: true}}
		}), true},
		{"that a disk is copied", sameDisk, disk(func(d *v1alpha2.VirtualDisk) {
			d.Status.Conditions = append(d.Status.Conditions, metav1.Condition{Type: "InUse", Status: "True", Reason: "UsedForImageCreation"})
		}), true},
		{"a disk's phase", sameDisk, disk(func(d *v1alpha2.VirtualDisk) { d.Status.Phase = "WaitForFirstConsumer" }), true},
		{"why a disk is not ready", sameDisk, disk(func(d *v1alpha2.VirtualDisk) { d.Status.Conditions[0].Reason = "QuotaExceeded" }), true},
		{"a disk's claim", sameDisk, disk(func(d *v1alpha2.VirtualDisk) { d.Status.Target.PersistentVolumeClaimName = "claim" }), true},
		{"a disk's size", sameDisk, disk(func(d *v1alpha2.VirtualDisk) { d.Status.Capacity = "2Gi" }), true},
		{"another disk of the name", sameDisk, disk(func(d *v1alpha2.VirtualDisk) { d.UID = "other" }), true},
		{"an image's users", sameImage, image(func(i *v1alpha2.VirtualImage) {
			i.Status.Conditions[0].Status, i.Status.Conditions[0].Message = "True", "Used by web and 1999 more"
		}), false},
		{"an image's phase", sameImage, image(func(i *v1alpha2.VirtualImage) { i.Status.Phase = "ImageLost" }), true},
		{"an image's claim", sameImage, image(func(i *v1alpha2.VirtualImage) { i.Status.Target.PersistentVolumeClaimName = "claim" }), true},
		{"an image's format", sameImage, image(func(i *v1alpha2.VirtualImage) { i.Status.Format = "vmdk" }), true},
		{"a cluster image's speed", sameClusterImage, clusterImage(func(i *v1alpha2.ClusterVirtualImage) {
			i.Status.DownloadSpeed = &v1alpha2.DownloadSpeed{}
		}), false},
		{"a cluster image's place", sameClusterImage, clusterImage(func(i *v1alpha2.ClusterVirtualImage) { i.Status.Target.RegistryURL = "dvcr/x" }), true},
		{"a cluster image is a CD-ROM", sameClusterImage, clusterImage(func(i *v1alpha2.ClusterVirtualImage) { i.Status.CDROM = true }), true},
		{"a cluster image's size", sameClusterImage, clusterImage(func(i *v1alpha2.ClusterVirtualImage) { i.Status.Size.Unpacked = "1Gi" }), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := factsOfDevice(test.before) != factsOfDevice(test.after); got != test.want {
				t.Errorf("wakes the machines: %t", got)
			}
		})
	}
}

func TestFactsOfPod(t *testing.T) {
	before := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{
		APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance", Name: "web", Controller: new(bool),
	}}}}
	*before.OwnerReferences[0].Controller = true
	for _, test := range []struct {
		name   string
		change func(*corev1.Pod)
		want   bool
	}{
		{"conditions", func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "Initialized", Status: "True"}}
		}, false},
		{"containers", func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "compute"}} }, false},
		{"running", func(p *corev1.Pod) { p.Status.Phase = "Running" }, false},
		{"ended", func(p *corev1.Pod) { p.Status.Phase = "Failed" }, true},
		{"node", func(p *corev1.Pod) { p.Spec.NodeName = "node-1" }, true},
		{"address", func(p *corev1.Pod) { p.Status.PodIP = "10.66.10.1" }, true},
		{"being deleted", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }, true},
		{"guest", func(p *corev1.Pod) { p.OwnerReferences = nil }, true},
		{"overhead", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"kubevirt.io/memory-overhead-bytes": "1"}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			after := before.DeepCopy()
			test.change(after)
			if got := factsOfPod(before) != factsOfPod(after); got != test.want {
				t.Errorf("wakes the machine: %t", got)
			}
		})
	}
	if factsOfPod(&corev1.Node{}) != (podFacts{}) {
		t.Error("a node is no pod")
	}
}

// That the engine holds an object, and how it goes about a start, tells nothing.
func TestEngineTells(t *testing.T) {
	engine := func(change func(*virtv1.VirtualMachine)) client.Object {
		out := &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "web", ResourceVersion: "1"}}
		out.Status.PrintableStatus = "Starting"
		change(out)
		return out
	}
	guest := func(phase virtv1.VirtualMachineInstancePhase, change func(*virtv1.VirtualMachineInstance)) client.Object {
		out := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
		out.Status.Phase = phase
		out.Status.PhaseTransitionTimestamps = []virtv1.VirtualMachineInstancePhaseTransitionTimestamp{{Phase: phase}}
		change(out)
		return out
	}
	sameEngine := engine(func(*virtv1.VirtualMachine) {})
	same := func(*virtv1.VirtualMachineInstance) {}
	for _, test := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"held", sameEngine, engine(func(m *virtv1.VirtualMachine) {
			m.ResourceVersion, m.Finalizers, m.ManagedFields = "2", []string{"kubevirt.io/x"}, []metav1.ManagedFieldsEntry{{Manager: "x"}}
		}), false},
		{"runs", sameEngine, engine(func(m *virtv1.VirtualMachine) { m.Status.PrintableStatus = "Running" }), true},
		{"edited", sameEngine, engine(func(m *virtv1.VirtualMachine) { m.Annotations = map[string]string{"x": "y"} }), true},
		{"respecified", sameEngine, engine(func(m *virtv1.VirtualMachine) { m.Generation = 2 }), true},
		{"being deleted", sameEngine, engine(func(m *virtv1.VirtualMachine) { m.DeletionTimestamp = &metav1.Time{} }), true},
		{"next step", guest("Pending", same), guest("Scheduling", same), false},
		{"node found", guest("Scheduling", same), guest("Scheduled", func(g *virtv1.VirtualMachineInstance) { g.Status.NodeName = "node-1" }), true},
		{"guest runs", guest("Scheduled", same), guest("Running", same), true},
		{"guest ends", guest("Running", same), guest("Succeeded", same), true},
		{"start fails", guest("Scheduling", same), guest("Failed", same), true},
		{"something else", &corev1.Node{}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "2"}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept := test.after.DeepCopyObject()
			if got := EngineTells().Update(event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}); got != test.want {
				t.Errorf("wakes the machine: %t", got)
			}
			if diff := cmp.Diff(kept, test.after); diff != "" {
				t.Errorf("the cache was changed: %s", diff)
			}
		})
	}
}

func TestWhatOfANodeIsNews(t *testing.T) {
	node := func(changes ...func(*corev1.Node)) *corev1.Node {
		out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"kubevirt.io/schedulable": "true"}}}
		for _, change := range changes {
			change(out)
		}
		return out
	}
	ready := func(status corev1.ConditionStatus) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: status, LastHeartbeatTime: metav1.NewTime(time.Now())}}
		}
	}
	label := func(key, value string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[key] = value } }
	taint := func(key string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: "NoSchedule"}} }
	}
	tests := []struct {
		name              string
		before, after     client.Object
		forAll, forGuests bool
	}{
		{"heartbeat", node(ready("True")), node(ready("True")), false, false},
		{"falls silent", node(ready("True")), node(ready("Unknown")), false, true},
		{"its agent falls silent", node(), node(label("kubevirt.io/schedulable", "false")), false, false},
		{"gets a label", node(), node(label("zone", "b")), true, false},
		{"is cordoned", node(), node(taint("node.kubernetes.io/unschedulable")), false, false},
		{"is dedicated", node(), node(taint("dedicated")), true, false},
		{"is no node", &corev1.Pod{}, &corev1.Pod{}, false, false},
	}
	for _, test := range tests {
		update := event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}
		if got := NodeSetChanged().Update(update); got != test.forAll {
			t.Errorf("%s: for all machines %t", test.name, got)
		}
		if got := NodeAnswers().Update(update); got != test.forGuests {
			t.Errorf("%s: for the machines of the node %t", test.name, got)
		}
	}
	if NodeAnswers().Create(event.CreateEvent{Object: node()}) || !NodeAnswers().Delete(event.DeleteEvent{Object: node()}) {
		t.Error("that a node is gone is news for its machines, that there is one is not")
	}
}

func TestOnlyTheSetOfNodesWakesMachines(t *testing.T) {
	plain := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	joined := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"kubevirt.io/schedulable": "true"}}}
	away := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"kubevirt.io/schedulable": "false"}}}
	changed := NodeSetChanged()
	if !changed.Update(event.UpdateEvent{ObjectOld: plain, ObjectNew: joined}) {
		t.Error("a node that KubeVirt joined is no news")
	}
	if changed.Update(event.UpdateEvent{ObjectOld: joined, ObjectNew: away}) || changed.Update(event.UpdateEvent{ObjectOld: plain, ObjectNew: plain}) {
		t.Error("a heartbeat is news")
	}
	if !changed.Create(event.CreateEvent{Object: plain}) || !changed.Delete(event.DeleteEvent{Object: plain}) {
		t.Error("a node that comes or goes is no news")
	}
}
