// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func machine(name string, deleted bool) Part {
	vm := &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	if deleted {
		vm.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}
	return Part{Object: vm, Kind: "machine", State: "Running"}
}

func guest(name string) Part {
	return Part{
		Object: &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}},
		Kind:   "guest", State: "Running on node node-2",
	}
}

var (
	kubeVirt = Part{
		Object: &virtv1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "kubevirt"}},
		Kind:   "KubeVirt", State: "Deployed",
	}
	memory = Memory{
		Claim: &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "persistent-state-for-mail-x"}},
		Owner: metav1.OwnerReference{Kind: "VirtualMachine", Name: "mail", UID: "u-1"},
	}
	containerDataImporter = Part{Object: &cdiv1.CDI{ObjectMeta: metav1.ObjectMeta{Name: "cdi"}}, Kind: "CDI"}
)

func TestDecide(t *testing.T) {
	running := Controller{Replicas: 2, Pods: []string{"d8-virtualization/c-1", "d8-virtualization/c-2"}}
	mail := machine("mail", false)
	tests := []struct {
		name string
		in   Observed
		want Plan
	}{
		{"nothing is left", Observed{}, Plan{Stage: "the engine is removed"}},
		{
			"the controller goes first, whatever else there is",
			Observed{Controller: running, Machines: []Part{mail}, Operated: []Part{kubeVirt}},
			Plan{
				Stage: "stopping the module's controllers", StopController: true,
				Remaining: []string{"Pod d8-virtualization/c-1", "Pod d8-virtualization/c-2"},
			},
		},
		{
			"a controller that ends may still write",
			Observed{Controller: Controller{Pods: []string{"d8-virtualization/c-1"}}, Machines: []Part{mail}},
			Plan{Stage: "stopping the module's controllers", Remaining: []string{"Pod d8-virtualization/c-1"}},
		},
		{
			"one that shall not run any more is not stopped twice",
			Observed{Controller: Controller{Replicas: 0}, Machines: []Part{machine("mail", true)}},
			Plan{Stage: "stopping guests", Remaining: []string{"machine team/mail (Running)"}},
		},
		{
			"machines go before what would take them away",
			Observed{Machines: []Part{mail, machine("gone", true)}, Guests: []Part{guest("stray")}, Operated: []Part{kubeVirt}},
			Plan{
				Stage: "stopping guests", Delete: []client.Object{mail.Object, guest("stray").Object},
				Remaining: []string{"guest team/stray (Running on node node-2)", "machine team/gone (Running)", "machine team/mail (Running)"},
			},
		},
		{
			"the operators' own objects go together",
			Observed{Operated: []Part{kubeVirt, containerDataImporter}},
			Plan{
				Stage: "removing KubeVirt and CDI", Delete: []client.Object{kubeVirt.Object, containerDataImporter.Object},
				Remaining: []string{"CDI cdi", "KubeVirt d8-virtualization/kubevirt (Deployed)"},
			},
		},
		{
			"what firmware remembers changes hands before its machine goes",
			Observed{Memories: []Memory{memory}, Machines: []Part{mail}, Operated: []Part{kubeVirt}},
			Plan{
				Stage: "keeping what firmware remembers", Keep: []Memory{memory},
				Remaining: []string{"volume team/persistent-state-for-mail-x"},
			},
		},
		{
			"but after the controller, which could take it back",
			Observed{Controller: running, Memories: []Memory{memory}},
			Plan{
				Stage: "stopping the module's controllers", StopController: true,
				Remaining: []string{"Pod d8-virtualization/c-1", "Pod d8-virtualization/c-2"},
			},
		},
		{
			"who enables the module again wants none of it",
			Observed{Enabled: true, Revoked: true, Controller: running, Machines: []Part{mail}, Operated: []Part{kubeVirt}},
			Plan{Stage: "the module is enabled again"},
		},
		{
			"who had it enabled all the time has it removed for another reason",
			Observed{Enabled: true, Machines: []Part{mail}},
			Plan{Stage: "stopping guests", Delete: []client.Object{mail.Object}, Remaining: []string{"machine team/mail (Running)"}},
		},
		{
			"another KubeVirt's machines are let be",
			Observed{Foreign: "kubevirt/kubevirt", Machines: []Part{mail}},
			Plan{Stage: "the engine is removed"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Decide(test.in); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestUnfinishedNamesWhatRemainsAndWhatToDo(t *testing.T) {
	plan := Decide(Observed{Machines: []Part{machine("mail", true)}, Guests: []Part{guest("mail")}})
	got := plan.unfinished(15 * time.Minute).Error()
	want := `the engine is not removed after 15m0s: stopping guests takes too long; what remains:
  - guest team/mail (Running on node node-2)
  - machine team/mail (Running)
What to do: look at the logs of virt-controller and, on the nodes of the guests, of virt-handler; a guest on a node that does not answer goes when the node is back or is deleted. The removal is tried again`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestEveryStageHasAdvice(t *testing.T) {
	for _, stage := range []Stage{StageController, StageMemories, StageGuests, StageOperated} {
		if advice := stage.advice(); !strings.HasPrefix(advice, "look at ") {
			t.Errorf("%s: %q", stage, advice)
		}
	}
	if StageDone.advice() != "" {
		t.Error("there is nothing to do when all is done")
	}
}
