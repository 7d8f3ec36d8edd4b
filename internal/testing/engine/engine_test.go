// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/internal/testing/controllertest"
)

func TestMain(m *testing.M) { apiserver.Main(m) }

// stage is a namespace in which the script plays.
type stage struct {
	t         *testing.T
	client    client.Client
	namespace string
	engine    *Engine
}

func newStage(t *testing.T) *stage {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, virtv1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	apiserver.Install(t, Resources()...)
	config := apiserver.Config(t)
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, client: c, namespace: apiserver.Namespace(t, c)}
	s.engine = Start(t, config, scheme, s.namespace)
	return s
}

func (s *stage) machine(strategy virtv1.VirtualMachineRunStrategy) *virtv1.VirtualMachine {
	s.t.Helper()
	machine := &virtv1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"},
		Spec: virtv1.VirtualMachineSpec{
			RunStrategy: ptr.To(strategy),
			Template: &virtv1.VirtualMachineInstanceTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha2.AnnotationCiliumIPAddress: "10.66.10.5"}},
				Spec:       virtv1.VirtualMachineInstanceSpec{Volumes: []virtv1.Volume{{Name: "vd-root"}, {Name: "cloudinit"}}},
			},
		},
	}
	if err := s.client.Create(s.t.Context(), machine); err != nil {
		s.t.Fatal(err)
	}
	return machine
}

func (s *stage) shows(machine *virtv1.VirtualMachine, status virtv1.VirtualMachinePrintableStatus) {
	s.t.Helper()
	controllertest.Wait(s.t, s.client, machine, string(status), func(m *virtv1.VirtualMachine) bool { return m.Status.PrintableStatus == status })
}

func (s *stage) guest() *virtv1.VirtualMachineInstance {
	s.t.Helper()
	guest := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"}}
	controllertest.Wait(s.t, s.client, guest, "a guest that runs", func(g *virtv1.VirtualMachineInstance) bool { return g.Status.Phase == virtv1.Running })
	return guest
}

func (s *stage) setStrategy(machine *virtv1.VirtualMachine, strategy virtv1.VirtualMachineRunStrategy) {
	s.t.Helper()
	controllertest.Update(s.t, s.client, machine, func(m *virtv1.VirtualMachine) { m.Spec.RunStrategy = ptr.To(strategy) })
}

// settled is long enough for the script to do what it must not do.
const settled = 20 * interval

func TestStartShowsAGuestAndItsPod(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyAlways)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	guest := s.guest()
	if !metav1.IsControlledBy(guest, machine) || guest.Status.NodeName != "node-1" || len(guest.Status.ActivePods) != 1 {
		t.Errorf("guest %+v", guest)
	}
	var targets []string
	for _, volume := range guest.Status.VolumeStatus {
		targets = append(targets, volume.Name+"="+volume.Target)
	}
	if !slices.Equal(targets, []string{"vd-root=sda", "cloudinit=sdb"}) {
		t.Errorf("volumes %v", targets)
	}
	pods := &corev1.PodList{}
	if err := s.client.List(t.Context(), pods, client.InNamespace(s.namespace)); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 || pods.Items[0].Status.PodIP != "10.66.10.5" || guest.Status.ActivePods[pods.Items[0].UID] != "node-1" {
		t.Errorf("pods %+v", pods.Items)
	}
}

// What KubeVirt does about a guest that ended depends on the strategy and on how it
// ended; the controllers count on exactly this.
func TestWhatFollowsTheEndOfAGuest(t *testing.T) {
	for _, tc := range []struct {
		title    string
		strategy virtv1.VirtualMachineRunStrategy
		end      virtv1.VirtualMachineInstancePhase
		again    bool
	}{
		{"a shutdown stays off", virtv1.RunStrategyRerunOnFailure, virtv1.Succeeded, false},
		{"a crash comes back", virtv1.RunStrategyRerunOnFailure, virtv1.Failed, true},
		{"always comes back", virtv1.RunStrategyAlways, virtv1.Succeeded, true},
	} {
		t.Run(tc.title, func(t *testing.T) {
			s := newStage(t)
			machine := s.machine(tc.strategy)
			s.shows(machine, virtv1.VirtualMachineStatusRunning)
			first := s.guest()
			s.engine.End(t, "web", tc.end)
			if !tc.again {
				controllertest.WaitGone(t, s.client, first)
				s.shows(machine, virtv1.VirtualMachineStatusStopped)
				time.Sleep(settled)
				s.shows(machine, virtv1.VirtualMachineStatusStopped)
				return
			}
			again := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "web"}}
			controllertest.Eventually(t, func() error {
				if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(again), again); err != nil {
					return err
				}
				if again.UID == first.UID || again.Status.Phase != virtv1.Running {
					return errors.New("no other guest runs yet")
				}
				return nil
			})
		})
	}
}

func TestStrategiesThatDoNotStart(t *testing.T) {
	for _, strategy := range []virtv1.VirtualMachineRunStrategy{virtv1.RunStrategyHalted, virtv1.RunStrategyManual} {
		s := newStage(t)
		machine := s.machine(strategy)
		s.shows(machine, virtv1.VirtualMachineStatusStopped)
		time.Sleep(settled)
		guests := &virtv1.VirtualMachineInstanceList{}
		if err := s.client.List(t.Context(), guests, client.InNamespace(s.namespace)); err != nil || len(guests.Items) != 0 {
			t.Errorf("%s: %d guests, %v", strategy, len(guests.Items), err)
		}
	}
}

func TestSwitchingOffAndOn(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyRerunOnFailure)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	first := s.guest()
	s.setStrategy(machine, virtv1.RunStrategyHalted)
	controllertest.WaitGone(t, s.client, first)
	s.shows(machine, virtv1.VirtualMachineStatusStopped)
	// It starts once, because the strategy changes while there is no guest.
	controllertest.Wait(t, s.client, machine, "the strategy in its status", func(m *virtv1.VirtualMachine) bool { return m.Status.RunStrategy == "Halted" })
	s.setStrategy(machine, virtv1.RunStrategyRerunOnFailure)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
}

// KubeVirt holds its objects until the pod is gone, then the guest, then the machine.
func TestDeletionLeavesNothing(t *testing.T) {
	s := newStage(t)
	machine := s.machine(virtv1.RunStrategyAlways)
	s.shows(machine, virtv1.VirtualMachineStatusRunning)
	guest := s.guest()
	if err := s.client.Delete(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	controllertest.WaitGone(t, s.client, machine, guest)
	pods := &corev1.PodList{}
	if err := s.client.List(t.Context(), pods, client.InNamespace(s.namespace)); err != nil || len(pods.Items) != 0 {
		t.Errorf("%d pods are left, %v", len(pods.Items), err)
	}
}

// There is no garbage collector in these tests but the script.
func TestGarbageOfAMachineThatIsGone(t *testing.T) {
	s := newStage(t)
	owner := metav1.OwnerReference{
		APIVersion: "virtualization.deckhouse.io/v1alpha2", Kind: "VirtualMachine", Name: "gone", UID: "a-uid", Controller: ptr.To(true),
	}
	orphan := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "orphan", OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: v1alpha2.IPAddressAuto},
	}
	own := &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "nobodys"}, Spec: orphan.Spec,
	}
	for _, claim := range []*v1alpha2.VirtualMachineIPAddress{orphan, own} {
		if err := s.client.Create(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
	}
	controllertest.WaitGone(t, s.client, orphan)
	time.Sleep(settled)
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(own), own); err != nil {
		t.Errorf("what nobody owns was collected: %v", err)
	}
}

func TestRefusedPriorityClass(t *testing.T) {
	s := newStage(t)
	machine := &virtv1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "refused"},
		Spec: virtv1.VirtualMachineSpec{
			RunStrategy: ptr.To(virtv1.RunStrategyHalted),
			Template:    &virtv1.VirtualMachineInstanceTemplateSpec{Spec: virtv1.VirtualMachineInstanceSpec{PriorityClassName: RefusedPriorityClass}},
		},
	}
	if err := s.client.Create(t.Context(), machine); err == nil || !strings.Contains(err.Error(), "the engine refuses this") {
		t.Errorf("got %v", err)
	}
}
