// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
)

func testReconciler(t *testing.T, objects ...client.Object) *reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha2.AddToScheme, corev1.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&corev1.Pod{}, indexPodsByGuest, guestNames).
		WithIndex(&virtv1.VirtualMachineInstanceMigration{}, indexMigrationsByGuest, guestsOfMigration).
		WithIndex(&virtv1.VirtualMachineInstance{}, indexGuestsByNode, nodesOfGuest).
		WithIndex(&v1alpha2.VirtualMachine{}, indexByDevice, func(object client.Object) []string {
			return deviceKeys(object.(*v1alpha2.VirtualMachine))
		})
	for _, index := range writerIndexes {
		builder = builder.WithIndex(index.object, index.name, index.keys)
	}
	for _, index := range writers.Indexes() {
		builder = builder.WithIndex(index.Object, index.Name, index.Keys)
	}
	server := builder.Build()
	return &reconciler{
		Executor: shared.Executor{Client: server}, direct: server, namespace: "d8-virtualization",
		clock: clocktesting.NewFakePassiveClock(now), writers: writers.NewLedger(server),
	}
}

func ownedPod(name, kind, apiVersion string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "team", Name: name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: "web", Controller: ptr.To(true)}},
	}}
}

func TestObserveReadsWhatTheMachineNames(t *testing.T) {
	o := observation(running(t))
	machine := o.Machine
	machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Name: "init"}}
	machine.Spec.BlockDeviceRefs = append(machine.Spec.BlockDeviceRefs,
		v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "tools"}, v1alpha2.BlockDeviceRef{Kind: "ClusterVirtualImage", Name: "debian"},
		v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "missing"})
	r := testReconciler(t, machine, o.Class, o.Claim, o.Devices[0].Disk, o.Engine, o.Guest,
		&v1alpha2.VirtualImage{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "tools"}},
		&v1alpha2.ClusterVirtualImage{ObjectMeta: metav1.ObjectMeta{Name: "debian"}},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "init"}, Type: "provisioning.virtualization.deckhouse.io/cloud-init",
			Data: map[string][]byte{"userData": []byte("secret"), "another": nil},
		},
		ownedPod("b", "VirtualMachineInstance", "kubevirt.io/v1"), ownedPod("a", "VirtualMachineInstance", "kubevirt.io/v1"),
		ownedPod("c", "ReplicaSet", "apps/v1"), ownedPod("d", "VirtualMachineInstance", "example.org/v1"),
	)
	got, err := r.observe(context.Background(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if got.Class == nil || got.Claim == nil || got.Engine == nil || got.Guest == nil || !got.Now.Equal(now) {
		t.Errorf("misses something: %+v", got)
	}
	if got.Devices[0].Disk == nil || got.Devices[1].Image == nil || got.Devices[2].ClusterImage == nil || got.Devices[3].Disk != nil {
		t.Errorf("devices %+v", got.Devices)
	}
	if diff := cmp.Diff(&decision.Secret{Type: "provisioning.virtualization.deckhouse.io/cloud-init", Keys: []string{"another", "userData"},
		Warning: "the first line does not say what the data is; cloud-init ignores it unless it is #cloud-config, #! or another known header"}, got.Secret); diff != "" {
		t.Error(diff)
	}
	if len(got.Pods) != 2 || got.Pods[0].Name != "a" || got.Pods[1].Name != "b" {
		t.Errorf("pods %v", got.Pods)
	}
}

func TestObserveADeletedMachineReadsOnlyTheGuest(t *testing.T) {
	o := observation(running(t))
	o.Machine.DeletionTimestamp = &metav1.Time{Time: now}
	got, err := testReconciler(t, o.Class, o.Claim, o.Engine, o.Guest).observe(context.Background(), o.Machine)
	if err != nil {
		t.Fatal(err)
	}
	if got.Engine == nil || got.Guest == nil || got.Class != nil || got.Claim != nil || got.Devices != nil {
		t.Errorf("observed %+v", got)
	}
}

func TestMachinesThatNameADevice(t *testing.T) {
	machine := observation().Machine
	r := testReconciler(t, machine)
	requests := r.machines(context.Background(), client.InNamespace("team"), client.MatchingFields{indexByDevice: "VirtualDisk/root"})
	if len(requests) != 1 || requests[0].Name != "web" {
		t.Errorf("woke %v", requests)
	}
	if requests := r.machines(context.Background(), client.InNamespace("team"), client.MatchingFields{indexByDevice: "VirtualImage/root"}); len(requests) > 0 {
		t.Errorf("an image of the same name woke %v", requests)
	}
	if requests := r.allMachines(context.Background(), nil); len(requests) != 1 {
		t.Errorf("all machines are %v", requests)
	}
	if key := deviceKey("ClusterVirtualImage")(machine); key != "ClusterVirtualImage/web" {
		t.Errorf("key %s", key)
	}
}

func TestGuestOfPod(t *testing.T) {
	got := guestOfPod(context.Background(), ownedPod("a", "VirtualMachineInstance", "kubevirt.io/v1"))
	if len(got) != 1 || got[0].Namespace != "team" || got[0].Name != "web" {
		t.Errorf("got %v", got)
	}
	if got := guestOfPod(context.Background(), &corev1.Pod{}); len(got) > 0 {
		t.Errorf("a pod of nobody belongs to %v", got)
	}
}

func TestOnlyReportsOfNodeAgentsWakeMachines(t *testing.T) {
	agent := func(namespace, app string, status corev1.ConditionStatus) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Labels: map[string]string{"app": app}}}
		if status != "" {
			pod.Status.Conditions = []corev1.PodCondition{{Type: "virtualization.deckhouse.io/BridgeBinding", Status: status}}
		}
		return pod
	}
	changed := testReconciler(t).bridgeReportChanged()
	tests := []struct {
		name          string
		before, after *corev1.Pod
		want          bool
	}{
		{"first report", agent("d8-virtualization", "vm-router", ""), agent("d8-virtualization", "vm-router", "True"), true},
		{"other report", agent("d8-virtualization", "vm-router", "True"), agent("d8-virtualization", "vm-router", "False"), true},
		{"same report", agent("d8-virtualization", "vm-router", "True"), agent("d8-virtualization", "vm-router", "True"), false},
		{"other pod", agent("d8-virtualization", "dvcr", "True"), agent("d8-virtualization", "dvcr", "False"), false},
		{"other namespace", agent("team", "vm-router", "True"), agent("team", "vm-router", "False"), false},
	}
	for _, test := range tests {
		if got := changed.Update(event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if !changed.Create(event.CreateEvent{Object: agent("d8-virtualization", "vm-router", "")}) ||
		!changed.Delete(event.DeleteEvent{Object: agent("d8-virtualization", "vm-router", "")}) ||
		changed.Create(event.CreateEvent{Object: agent("team", "web", "")}) {
		t.Error("an agent that comes or goes counts, another pod does not")
	}
}
