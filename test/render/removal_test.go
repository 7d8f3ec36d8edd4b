// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func removalJob(t *testing.T, objects []Object) batchv1.Job {
	t.Helper()
	found, ok := lookup(objects, "Job", "engine-removal")
	if !ok {
		t.Fatal("nothing removes the engine")
	}
	var job batchv1.Job
	convert(t, found, &job)
	return job
}

// Whatever the settings are, Helm removes the engine first, with a Job that may do
// that and nothing else.
func TestRemoval(t *testing.T) {
	forEach(t, func(t *testing.T, objects []Object) {
		job := removalJob(t, objects)
		if job.Annotations["helm.sh/hook"] != "pre-delete" || job.Namespace != "d8-virtualization" {
			t.Errorf("the Job %s/%s is the hook %q", job.Namespace, job.Name, job.Annotations["helm.sh/hook"])
		}
		// A failed Job has to stay: its log names what remains.
		if policy := job.Annotations["helm.sh/hook-delete-policy"]; policy != "before-hook-creation,hook-succeeded" {
			t.Errorf("it is deleted by the policy %q", policy)
		}
		if *job.Spec.BackoffLimit != 0 || job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever {
			t.Error("a failure is not told at once")
		}
		pod := workload{Template: job.Spec.Template}
		pod.Object, _ = lookup(objects, "Job", "engine-removal")
		checkPod(t, objects, pod)
		container := job.Spec.Template.Spec.Containers[0]
		if !byDigest.MatchString(container.Image) || container.ImagePullPolicy != corev1.PullIfNotPresent {
			t.Errorf("image %s, %s", container.Image, container.ImagePullPolicy)
		}
		security := container.SecurityContext
		if !*security.ReadOnlyRootFilesystem || *security.AllowPrivilegeEscalation || !slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("security context %+v", security)
		}
		for _, resource := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			if _, requested := container.Resources.Requests[resource]; !requested {
				t.Errorf("no request of %s", resource)
			}
		}
	})
}

// It deletes objects of whole groups, so nothing of Kubernetes' own may be among them; of volumes it changes the owner.
func TestRemovalIsNarrow(t *testing.T) {
	objects := render(t, Case{})
	for _, kind := range []string{"ClusterRole", "Role"} {
		name := map[string]string{"ClusterRole": "d8:virtualization:engine-removal", "Role": "engine-removal"}[kind]
		for _, rule := range rulesOf(t, objects, name) {
			if slices.Contains(rule.Verbs, "delete") && !slices.Contains([]string{"kubevirt.io", "cdi.kubevirt.io"}, rule.APIGroups[0]) {
				t.Errorf("%s deletes %v of %v", kind, rule.Resources, rule.APIGroups)
			}
			volumes := slices.Equal(rule.Resources, []string{"persistentvolumeclaims"}) && slices.Equal(rule.Verbs, []string{"list", "patch"})
			guests := slices.Equal(rule.Resources, []string{"virtualmachines", "virtualmachineinstances"})
			if named := len(rule.ResourceNames) > 0; !named && writes(rule) && !guests && !volumes {
				t.Errorf("%s %v any of %v", kind, rule.Verbs, rule.Resources)
			}
		}
	}
}

func writes(rule rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rule.Verbs, func(verb string) bool { return !slices.Contains([]string{"get", "list", "watch"}, verb) })
}

// The operators leave through these definitions: Helm can't delete an object whose
// kind is gone, so both stay.
func TestOperatorsKindsStayForHelm(t *testing.T) {
	for _, object := range render(t, Case{}) {
		if object.GetKind() == "CustomResourceDefinition" {
			t.Errorf("%s goes with the release, before its objects do", object.GetName())
		}
	}
}
