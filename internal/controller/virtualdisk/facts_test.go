// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
)

func TestDecideTerminating(t *testing.T) {
	mounted := func(o *Observed) { o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "web", Mounted: true}} }
	going := func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{Time: now} }
	for _, tc := range []struct {
		name      string
		observed  Observed
		finalizer shared.FinalizerChange
		writes    string
		message   string
	}{
		{
			name: "during the fill", observed: observe(deleted, fill(filling.Running), claim("2Gi", "2Gi")),
			writes: "delete ConfigMap, delete PersistentVolumeClaim", message: "Waiting for the fill of the volume to stop",
		},
		{
			name: "with a volume", observed: observe(deleted, claim("2Gi", "2Gi", owned)),
			writes: "delete PersistentVolumeClaim", message: "Waiting for PersistentVolumeClaim team/" + claimName + " to be deleted",
		},
		{
			name: "with a volume in use", observed: observe(deleted, mounted, claim("2Gi", "2Gi", owned)),
			message: "The disk is in use by machine web and is deleted when that is stopped or has the disk no more",
		},
		{
			name: "while an image is made from it", message: "VirtualImage team/golden is being made from the disk, which is deleted after that",
			observed: observe(deleted, claim("2Gi", "2Gi", owned), func(o *Observed) {
				o.Copies = []usage.User{{Kind: "VirtualImage", Namespace: "team", Name: "golden"}}
			}),
		},
		{
			name: "with a volume that is going", observed: observe(deleted, claim("2Gi", "2Gi", owned, going)),
			message: "Waiting for PersistentVolumeClaim team/" + claimName + " to be deleted",
		},
		{
			name: "while the source is looked at", observed: observe(web, deleted, inspector(nil)), writes: looksNoMore,
			message: "Waiting for the look at the data source to end",
		},
		{name: "with nothing", observed: observe(deleted), finalizer: shared.FinalizerRemove},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(tc.observed)
			if got.Finalizer != tc.finalizer {
				t.Errorf("finalizer: got %q", got.Finalizer)
			}
			if writes := writesOf(got); writes != tc.writes {
				t.Errorf("children: got %q, want %q", writes, tc.writes)
			}
			if tc.message == "" {
				return
			}
			if got.Status.Status.Phase != "Terminating" {
				t.Errorf("phase: %q", got.Status.Status.Phase)
			}
			checkCondition(t, got.Status.Status.Conditions, "Terminating", "True/CleanupPending")
			if message := conditionMessage(got.Status.Status.Conditions, "Terminating"); !strings.Contains(message, tc.message) {
				t.Errorf("message: %q", message)
			}
		})
	}
	unheld := observe(deleted, claim("2Gi", "2Gi"))
	unheld.Disk.Finalizers = nil
	if got := decide(unheld); got.Status != nil || writesOf(got) != "" || got.Finalizer != shared.FinalizerKeep {
		t.Errorf("a disk that is not ours to clean up after was touched: %+v", got)
	}
}

func TestDecideShowsMachines(t *testing.T) {
	o := observe(claim("2Gi", "2Gi", owned), func(o *Observed) {
		o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "api"}, {Name: "web", Mounted: true}}
	})
	status := decide(o).Status.Status
	checkCondition(t, status.Conditions, "InUse", "True/AttachedToVirtualMachine")
	if fmt.Sprint(status.AttachedToVirtualMachines) != "[{api false} {web true}]" {
		t.Errorf("machines: %v", status.AttachedToVirtualMachines)
	}
	o.Machines[1].Mounted = false
	checkCondition(t, decide(o).Status.Status.Conditions, "InUse", "False/NotInUse")
	o.Machines = nil
	status = decide(o).Status.Status
	checkCondition(t, status.Conditions, "InUse", "False/NotInUse")
	if len(status.AttachedToVirtualMachines) != 0 {
		t.Errorf("machines: %v", status.AttachedToVirtualMachines)
	}
}

func TestDecideHoldsADiskThatIsCopied(t *testing.T) {
	o := observe(claim("2Gi", "2Gi", owned), func(o *Observed) {
		o.Machines = []v1alpha2.AttachedVirtualMachine{{Name: "api"}}
		o.Copies = []usage.User{{Kind: "ClusterVirtualImage", Name: "golden"}, {Kind: "VirtualImage", Namespace: "team", Name: "golden"}}
	})
	status := decide(o).Status.Status
	checkCondition(t, status.Conditions, "InUse", "True/UsedForImageCreation")
	const want = "ClusterVirtualImage golden, VirtualImage team/golden is being made from the disk; machines with it start after that"
	if got := meta.FindStatusCondition(status.Conditions, "InUse").Message; got != want {
		t.Errorf("message: %s", got)
	}
	// A machine that was faster has it.
	o.Machines[0].Mounted = true
	checkCondition(t, decide(o).Status.Status.Conditions, "InUse", "True/AttachedToVirtualMachine")
}

func TestDecideStatusOfAFinishedDisk(t *testing.T) {
	o := observe(sized("5Gi"), fill(filling.Done), claim("5Gi", "2Gi"))
	status := decide(o).Status.Status
	if status.Capacity != "2Gi" || status.StorageClassName != "fast" || status.Target.PersistentVolumeClaimName != claimName {
		t.Errorf("status: %+v", status)
	}
	if total := status.Stats.CreationDuration.TotalProvisioning; total.Duration != 90*time.Second {
		t.Errorf("total: %s", total.Duration)
	}
	o.Claim.Status.Capacity = o.Claim.Spec.Resources.Requests
	o.Claim.OwnerReferences = []metav1.OwnerReference{{UID: testUID}}
	o.Disk.Status, o.Now = status, now.Add(time.Hour)
	after := decide(o)
	if after.Status.Status.Capacity != "5Gi" || after.Status.Status.Stats.CreationDuration.TotalProvisioning.Duration != 90*time.Second {
		t.Errorf("status after growing: %+v", after.Status.Status)
	}
	if events := eventsOf(after.Events); events != "Normal ResizingSucceeded" {
		t.Errorf("events: %q", events)
	}
}

func TestDecideOrder(t *testing.T) {
	got := decide(observe(sized("10Gi"), func(o *Observed) {
		o.Disk.Annotations = map[string]string{"virtualdisk.virtualization.deckhouse.io/binding-mode": "Immediate"}
	}))
	claim := got.Create[0].(*corev1.PersistentVolumeClaim)
	if claim.Namespace != "team" || claim.Name != claimName || len(claim.OwnerReferences) != 0 {
		t.Errorf("claim: %+v", claim.ObjectMeta)
	}
	if ref := claim.Spec.DataSourceRef; ref.Kind != "VirtualImage" || ref.Name != "debian" || *ref.APIGroup != "virtualization.deckhouse.io" {
		t.Errorf("source: %+v", ref)
	}
	spec := claim.Spec
	size := spec.Resources.Requests["storage"]
	if spec.AccessModes[0] != "ReadWriteMany" || *spec.VolumeMode != "Block" || *spec.StorageClassName != "fast" || size.String() != "10Gi" {
		t.Errorf("claim: %+v", spec)
	}
	if claim.Annotations["virtualdisk.virtualization.deckhouse.io/binding-mode"] != "Immediate" {
		t.Errorf("annotations: %v", claim.Annotations)
	}
	status := got.Status.Status
	if status.SourceUID != "image-uid" || status.StorageClassName != "fast" || status.Target.PersistentVolumeClaimName != claimName {
		t.Errorf("status: %+v", status)
	}
	if waited := status.Stats.CreationDuration.WaitingForDependencies; waited.Duration != 90*time.Second {
		t.Errorf("waited for dependencies: %s", waited.Duration)
	}
}

func TestDecideIsPure(t *testing.T) {
	o := observe(sized("5Gi"), fill(filling.Done), claim("2Gi", "2Gi"))
	before := fmt.Sprintf("%+v %+v %+v", o.Disk, o.Claim, o.Filling)
	first, second := decide(o), decide(o)
	if fmt.Sprintf("%+v", first.Status.Status) != fmt.Sprintf("%+v", second.Status.Status) {
		t.Error("two decisions about the same observation differ")
	}
	first.Status.Status.Conditions[0].Message = "changed"
	first.Apply[0].Want.SetName("changed")
	if after := fmt.Sprintf("%+v %+v %+v", o.Disk, o.Claim, o.Filling); after != before {
		t.Errorf("the decision shares memory with the observation:\n%s\n%s", before, after)
	}
}

// TestALostStatusIsToldAgain looks at fills whose first status was never written:
// the controller died, or lost the write to another one, right after the order.
func TestALostStatusIsToldAgain(t *testing.T) {
	for name, changes := range map[string][]change{
		"while it is filled": {fill(filling.Running)},
		"when it is filled":  {fill(filling.Done), claim("2Gi", "2Gi")},
	} {
		t.Run(name, func(t *testing.T) {
			status := decide(observe(changes...)).Status.Status
			if status.SourceUID != "image-uid" || status.Target.PersistentVolumeClaimName != claimName {
				t.Errorf("source %q, claim %q", status.SourceUID, status.Target.PersistentVolumeClaimName)
			}
			if wait := status.Stats.CreationDuration.WaitingForDependencies; wait == nil || wait.Duration != 90*time.Second {
				t.Errorf("waited for dependencies: %v", wait)
			}
		})
	}
}
