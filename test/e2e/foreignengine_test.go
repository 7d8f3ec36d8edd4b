// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// foreignKubeVirt is the object by which somebody else's KubeVirt is installed.
func foreignKubeVirt(namespace string) *virtv1.KubeVirt {
	return &virtv1.KubeVirt{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kubevirt"}}
}

// TestAForeignEngineIsKeptOut tries to install a second KubeVirt beside the module's: the
// policy keeps administrators from it, and KubeVirt itself those whom no policy binds.
func TestAForeignEngineIsKeptOut(t *testing.T) {
	ctx := deadline(t, time.Minute)
	namespace := newNamespace(t)
	installer := person(t, namespace, "installer", clusterRole(t, "e2e-installer", rbacv1.PolicyRule{
		APIGroups: []string{"kubevirt.io"}, Resources: []string{"kubevirts"}, Verbs: []string{"*"},
	}))
	theirs, err := client.New(installer, client.Options{Scheme: kube.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	err = theirs.Create(ctx, foreignKubeVirt(namespace))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "objects of kubevirt.io belong to the virtualization module, and installer may only read them") {
		t.Errorf("an administrator: %v", err)
	}
	err = kube.Create(ctx, foreignKubeVirt(namespace))
	if err == nil || !strings.Contains(err.Error(), "Kubevirt is already created") {
		t.Errorf("whom no policy binds: %v", err)
	}
	list := &virtv1.KubeVirtList{}
	if err := kube.List(ctx, list); err != nil || len(list.Items) != 1 || list.Items[0].Namespace != moduleNamespace {
		t.Errorf("there are %d KubeVirts (%v)", len(list.Items), err)
	}
}

// meetForeignEngine enables the module where somebody else's KubeVirt is, and takes that
// away: then the module goes on by itself.
func meetForeignEngine(ctx context.Context, t *testing.T, u *updated) {
	theirs := foreignKubeVirt(u.machine.Namespace)
	if err := kube.Create(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), theirs) })
	if err := patchConfig(ctx, t, `{"spec":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	want := "the cluster has a virtualization engine that is not this module's: KubeVirt " + theirs.Namespace + "/kubevirt"
	module := platformObject("Module", "v1alpha1", "virtualization")
	waitFor(ctx, t, client.Object(module), "does not name the other KubeVirt", func(client.Object) bool {
		conditions, _, _ := unstructured.NestedSlice(module.Object, "status", "conditions")
		for _, condition := range conditions {
			fields, _ := condition.(map[string]any)
			message, _ := fields["message"].(string)
			if fields["type"] == "IsReady" && fields["status"] == "False" && strings.Contains(message, want) {
				return true
			}
		}
		return false
	})
	installed := &appsv1.DeploymentList{}
	if err := kube.List(ctx, installed, client.InNamespace(moduleNamespace)); err != nil || len(installed.Items) != 0 {
		t.Errorf("%d Deployments were installed beside it (%v)", len(installed.Items), err)
	}
	remove(ctx, t, theirs)
}
