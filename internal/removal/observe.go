// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// memoryLabel is KubeVirt's on a volume for what firmware remembers; its value is the machine's name.
const memoryLabel = "persistent-state-for"

// moduleConfigKind is Deckhouse's, by which administrators enable modules.
var moduleConfigKind = schema.GroupVersionKind{Group: "deckhouse.io", Version: "v1alpha1", Kind: "ModuleConfig"}

// observe reads everything that a decision needs, from the API server itself.
func (r *Remover) observe(ctx context.Context) (Observed, error) {
	var o Observed
	return o, errors.Join(
		r.observeWish(ctx, &o.Enabled),
		r.observeController(ctx, &o.Controller),
		r.observeMemories(ctx, &o.Memories),
		r.observeMachines(ctx, &o.Machines),
		r.observeGuests(ctx, &o.Guests),
		r.observeKubeVirt(ctx, &o),
		r.observeCDI(ctx, &o),
	)
}

// observeWish asks whether the ModuleConfig enables the module. One that is not there does not.
func (r *Remover) observeWish(ctx context.Context, out *bool) error {
	config := &unstructured.Unstructured{}
	config.SetGroupVersionKind(moduleConfigKind)
	err := r.Client.Get(ctx, client.ObjectKey{Name: moduleName}, config)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the ModuleConfig %s: %w", moduleName, err)
	}
	*out, _, err = unstructured.NestedBool(config.Object, "spec", "enabled")
	return err
}

func (r *Remover) observeController(ctx context.Context, out *Controller) error {
	deployment := &appsv1.Deployment{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: controllerName}, deployment)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the Deployment %s: %w", controllerName, err)
	}
	if err == nil {
		out.Replicas = ptr.Deref(deployment.Spec.Replicas, 1)
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(r.Namespace), client.MatchingLabels{"app": controllerName}); err != nil {
		return fmt.Errorf("listing the Pods of %s: %w", controllerName, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if owned := podOfDeployment(pod); owned && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			out.Pods = append(out.Pods, pod.Namespace+"/"+pod.Name)
		}
	}
	return nil
}

// podOfDeployment leaves out Pods that only share the label.
func podOfDeployment(pod *corev1.Pod) bool {
	for _, owner := range pod.OwnerReferences {
		if owner.Kind == "ReplicaSet" {
			return true
		}
	}
	return false
}

// observeMemories lists the volumes that belong to the engine's machine alone, though the user's machine stays.
func (r *Remover) observeMemories(ctx context.Context, out *[]Memory) error {
	claims := &corev1.PersistentVolumeClaimList{}
	if err := r.list(ctx, claims, client.HasLabels{memoryLabel}); err != nil {
		return err
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		if claim.DeletionTimestamp != nil || !isOwnedBy(claim, virtv1.GroupVersion.Group) || isOwnedBy(claim, v1alpha2.SchemeGroupVersion.Group) {
			continue
		}
		machine := &v1alpha2.VirtualMachine{}
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: claim.Namespace, Name: claim.Labels[memoryLabel]}, machine)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("reading the machine of the volume %s/%s: %w", claim.Namespace, claim.Name, err)
		}
		// What is left of a machine that is gone, or goes, may go as well.
		if err == nil && machine.DeletionTimestamp == nil {
			*out = append(*out, Memory{Claim: claim, Owner: metav1.OwnerReference{
				APIVersion: v1alpha2.SchemeGroupVersion.String(), Kind: v1alpha2.VirtualMachineKind, Name: machine.Name, UID: machine.UID,
			}})
		}
	}
	return nil
}

func isOwnedBy(object metav1.Object, group string) bool {
	return slices.ContainsFunc(object.GetOwnerReferences(), func(owner metav1.OwnerReference) bool {
		return strings.HasPrefix(owner.APIVersion, group+"/") && owner.Kind == v1alpha2.VirtualMachineKind
	})
}

func (r *Remover) observeMachines(ctx context.Context, out *[]Part) error {
	list := &virtv1.VirtualMachineList{}
	if err := r.list(ctx, list); err != nil {
		return err
	}
	for i := range list.Items {
		*out = append(*out, Part{Object: &list.Items[i], Kind: "machine", State: string(list.Items[i].Status.PrintableStatus)})
	}
	return nil
}

func (r *Remover) observeGuests(ctx context.Context, out *[]Part) error {
	list := &virtv1.VirtualMachineInstanceList{}
	if err := r.list(ctx, list); err != nil {
		return err
	}
	for i := range list.Items {
		guest := &list.Items[i]
		state := string(guest.Status.Phase)
		if guest.Status.NodeName != "" {
			state += " on node " + guest.Status.NodeName
		}
		*out = append(*out, Part{Object: guest, Kind: "guest", State: state})
	}
	return nil
}

func (r *Remover) observeKubeVirt(ctx context.Context, o *Observed) error {
	list := &virtv1.KubeVirtList{}
	if err := r.list(ctx, list); err != nil {
		return err
	}
	for i := range list.Items {
		found := &list.Items[i]
		if found.Namespace != r.Namespace {
			o.Foreign = found.Namespace + "/" + found.Name
			continue
		}
		state := string(found.Status.Phase)
		for _, condition := range found.Status.Conditions {
			if condition.Type == virtv1.KubeVirtConditionSynchronized && condition.Status == corev1.ConditionFalse {
				state += ": " + condition.Message
			}
		}
		o.Operated = append(o.Operated, Part{Object: found, Kind: "KubeVirt", State: state})
	}
	return nil
}

func (r *Remover) observeCDI(ctx context.Context, o *Observed) error {
	list := &cdiv1.CDIList{}
	if err := r.list(ctx, list, client.MatchingLabels{"module": "virtualization"}); err != nil {
		return err
	}
	for i := range list.Items {
		o.Operated = append(o.Operated, Part{Object: &list.Items[i], Kind: "CDI", State: string(list.Items[i].Status.Phase)})
	}
	return nil
}

// list reads all objects of a kind. There are none of a kind that is not served any more.
func (r *Remover) list(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	err := r.Client.List(ctx, list, options...)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing %T: %w", list, err)
	}
	return nil
}
