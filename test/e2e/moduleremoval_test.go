// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	// removalLimit and enablingLimit are the bounds; removing includes the guests' shutdown.
	removalLimit, enablingLimit = 5 * time.Minute, 3 * time.Minute
)

func refuseToDisable(ctx context.Context, t *testing.T, _ *updated) {
	before := generations(ctx, t)
	for name, try := range map[string]func() error{
		"disabling": func() error { return patchConfig(ctx, t, `{"spec":{"enabled":false}}`) },
		"deleting":  func() error { return kube.Delete(ctx, moduleConfig(ctx, t)) },
	} {
		err := try()
		if err == nil || !strings.Contains(err.Error(), "modules.deckhouse.io/allow-disabling=true") || !strings.Contains(err.Error(), "stops every virtual machine") {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// Long enough for a Helm run, had there been one.
	time.Sleep(3 * time.Second)
	for name, generation := range generations(ctx, t) {
		if before[name] != generation {
			t.Errorf("%s was changed", name)
		}
	}
}

// firmwareMemory is the volume on which KubeVirt keeps what a machine's firmware remembers.
func firmwareMemory(ctx context.Context, t *testing.T, m *v1alpha2.VirtualMachine) *corev1.PersistentVolumeClaim {
	t.Helper()
	claims := &corev1.PersistentVolumeClaimList{}
	if err := kube.List(ctx, claims, client.InNamespace(m.Namespace), client.MatchingLabels{"persistent-state-for": m.Name}); err != nil {
		t.Fatal(err)
	}
	if len(claims.Items) != 1 {
		t.Fatalf("%d volumes remember what the firmware of %s has written", len(claims.Items), m.Name)
	}
	return &claims.Items[0]
}

// changeTheMind enables the module while its removal is under way, and held up by a machine that does not go.
func changeTheMind(ctx context.Context, t *testing.T, u *updated) {
	watchers.rest()
	const stay = "e2e.test/stay"
	engines := &virtv1.VirtualMachine{}
	engines.Namespace, engines.Name = u.machine.Namespace, u.machine.Name
	hold := func(patch string) {
		if err := kube.Patch(ctx, engines, client.RawPatch(types.JSONPatchType, []byte(patch))); err != nil {
			t.Fatal(err)
		}
	}
	hold(`[{"op":"add","path":"/metadata/finalizers/-","value":"` + stay + `"}]`)
	first := engines.UID
	if err := patchConfig(ctx, t, `{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":"true"}},"spec":{"enabled":false}}`); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, engines, "is not removed", func(vm *virtv1.VirtualMachine) bool {
		return vm.DeletionTimestamp != nil && len(vm.Finalizers) == 1
	})
	if err := patchConfig(ctx, t, `{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":null}},"spec":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	job := &batchv1.Job{}
	job.Namespace, job.Name = moduleNamespace, "engine-removal"
	waitFor(ctx, t, job, "goes on", func(j *batchv1.Job) bool { return j.Status.Failed > 0 })
	hold(`[{"op":"remove","path":"/metadata/finalizers/0"}]`)
	waitFor(ctx, t, engines, "was not made anew", func(vm *virtv1.VirtualMachine) bool { return vm.UID != first })
	waitRolledOut(ctx, t)
	waitPlatform(ctx, t, platformObject("Module", "v1alpha1", "virtualization"), "Ready", "status", "phase")
	launcherAgain(ctx, t, u)
	u.launcher = launcher(ctx, t, u.machine).UID
	memory := firmwareMemory(ctx, t, u.machine)
	if memory.UID != u.memory {
		t.Error("the firmware has forgotten everything")
	}
	if len(memory.OwnerReferences) != 1 || memory.OwnerReferences[0].UID != u.machine.UID {
		t.Errorf("its volume belongs to %v", memory.OwnerReferences)
	}
}

func removeModule(ctx context.Context, t *testing.T, u *updated) {
	watchers.rest()
	wishes := specs(ctx, t)
	begun := time.Now()
	if err := patchConfig(ctx, t, `{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":"true"}},"spec":{"enabled":false}}`); err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{}
	namespace.Name = moduleNamespace
	limited, cancel := context.WithTimeout(ctx, removalLimit)
	defer cancel()
	waitGone(limited, t, namespace)
	t.Logf("removed in %s", time.Since(begun).Round(time.Second))
	pods := &corev1.PodList{}
	waitNone(ctx, t, "launchers", func() (int, error) {
		err := kube.List(ctx, pods, client.MatchingLabels{"kubevirt.io": "virt-launcher"})
		return len(pods.Items), err
	})
	checkEngineIsGone(ctx, t)
	checkRoutesAreGone(ctx, t)
	nodes := &corev1.NodeList{}
	waitNone(ctx, t, "labels of nodes", func() (int, error) {
		err := kube.List(ctx, nodes)
		return labelsOfEngine(nodes.Items), err
	})
	// What users declared waits for the module to come back.
	for name, generation := range specs(ctx, t) {
		if wishes[name] != generation {
			t.Errorf("the spec of %s was changed", name)
		}
	}
	if got := len(specs(ctx, t)); got != len(wishes) {
		t.Errorf("%d objects of users are left of %d", got, len(wishes))
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: u.disk.Namespace, Name: u.disk.Status.Target.PersistentVolumeClaimName}, claim); err != nil {
		t.Errorf("the disk's volume: %v", err)
	}
}

// labelsOfEngine counts the labels by which nodes look as if they could run machines.
func labelsOfEngine(nodes []corev1.Node) int {
	count := 0
	for i := range nodes {
		for key := range nodes[i].Labels {
			if strings.Contains(key, "kubevirt.io/") || key == "virtualization.deckhouse.io/kvm-enabled" {
				count++
			}
		}
	}
	return count
}

// checkEngineIsGone looks for everything that would answer for the engine.
func checkEngineIsGone(ctx context.Context, t *testing.T) {
	t.Helper()
	definitions := &apiextensionsv1.CustomResourceDefinitionList{}
	services := &unstructured.UnstructuredList{}
	services.SetAPIVersion("apiregistration.k8s.io/v1")
	services.SetKind("APIServiceList")
	validating, mutating := &admissionregistrationv1.ValidatingWebhookConfigurationList{}, &admissionregistrationv1.MutatingWebhookConfigurationList{}
	policies := &admissionregistrationv1.ValidatingAdmissionPolicyList{}
	for _, list := range []client.ObjectList{definitions, services, validating, mutating, policies} {
		if err := kube.List(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	for i := range definitions.Items {
		name := definitions.Items[i].Name
		// By these two the engine is installed; they have no objects.
		if strings.HasSuffix(name, ".kubevirt.io") && name != "kubevirts.kubevirt.io" && name != "cdis.cdi.kubevirt.io" {
			t.Errorf("the definition %s is left", name)
		}
	}
	for i := range services.Items {
		service, _, _ := unstructured.NestedString(services.Items[i].Object, "spec", "service", "namespace")
		if service == moduleNamespace {
			t.Errorf("the APIService %s is left", services.Items[i].GetName())
		}
	}
	for i := range validating.Items {
		for _, hook := range validating.Items[i].Webhooks {
			if service := hook.ClientConfig.Service; service != nil && service.Namespace == moduleNamespace {
				t.Errorf("the webhook %s of %s is left", hook.Name, validating.Items[i].Name)
			}
		}
	}
	for i := range mutating.Items {
		for _, hook := range mutating.Items[i].Webhooks {
			if service := hook.ClientConfig.Service; service != nil && service.Namespace == moduleNamespace {
				t.Errorf("the webhook %s of %s is left", hook.Name, mutating.Items[i].Name)
			}
		}
	}
	for i := range policies.Items {
		if strings.HasPrefix(policies.Items[i].Name, "d8-virtualization") {
			t.Errorf("the policy %s is left", policies.Items[i].Name)
		}
	}
}

func checkRoutesAreGone(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, node := range []string{"node-1", "node-2"} {
		// A table that was never there is an error to ip; that is as good as an empty one.
		if out := sandbox(ctx, t, "exec", node, "--", "sh", "-c", "ip route show table 1490 2>/dev/null; ip rule | grep 1490 || true"); strings.TrimSpace(out) != "" {
			t.Errorf("%s has routes or rules:\n%s", node, out)
		}
	}
}

func enableAgain(ctx context.Context, t *testing.T, u *updated) {
	begun := time.Now()
	if err := patchConfig(ctx, t, `{"metadata":{"annotations":{"modules.deckhouse.io/allow-disabling":null}},"spec":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	kubeVirt := &unstructured.Unstructured{}
	kubeVirt.SetAPIVersion("kubevirt.io/v1")
	kubeVirt.SetKind("KubeVirt")
	kubeVirt.SetNamespace(moduleNamespace)
	kubeVirt.SetName("kubevirt")
	waitPlatform(ctx, t, kubeVirt, "Deployed", "status", "phase")
	waitRolledOut(ctx, t)
	took := time.Since(begun)
	t.Logf("all workloads were ready after %s", took.Round(time.Second))
	if took > enablingLimit {
		t.Errorf("enabling took %s, the bound is %s", took.Round(time.Second), enablingLimit)
	}
	guest := launcherAgain(ctx, t, u)
	t.Logf("the machine runs in %s", guest)
	awaitGuest(ctx, t, u.machine)
	disk := waitReady(ctx, t, u.disk.DeepCopy())
	if disk.Status.Target.PersistentVolumeClaimName != u.disk.Status.Target.PersistentVolumeClaimName {
		t.Errorf("the disk is on another volume, %s", disk.Status.Target.PersistentVolumeClaimName)
	}
	if boot := bootID(ctx, t, u.machine); boot == u.boot {
		t.Error("the guest cannot have survived")
	}
	if firmwareMemory(ctx, t, u.machine).UID != u.memory {
		t.Error("the firmware has forgotten everything")
	}
}

// launcherAgain waits for another pod than the one before.
func launcherAgain(ctx context.Context, t *testing.T, u *updated) string {
	t.Helper()
	pods := &corev1.PodList{}
	waitFor(ctx, t, u.machine, "was not started again", func(m *v1alpha2.VirtualMachine) bool {
		err := kube.List(ctx, pods, client.InNamespace(m.Namespace), client.MatchingLabels{"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": m.Name})
		return err == nil && m.Status.Phase == v1alpha2.MachineRunning && len(pods.Items) == 1 && pods.Items[0].UID != u.launcher
	})
	return pods.Items[0].Name
}
