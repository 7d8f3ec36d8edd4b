// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package removal

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// observe reads everything that a decision needs, from the API server itself.
func (r *Remover) observe(ctx context.Context) (Observed, error) {
	var o Observed
	return o, errors.Join(
		r.observeController(ctx, &o.Controller),
		r.observeMachines(ctx, &o.Machines),
		r.observeGuests(ctx, &o.Guests),
		r.observeKubeVirt(ctx, &o),
		r.observeCDI(ctx, &o),
	)
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
