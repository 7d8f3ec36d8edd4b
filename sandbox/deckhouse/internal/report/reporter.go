// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// APIVersion of the objects of this package.
const APIVersion = "deckhouse.io/v1alpha1"

// Resources of the platform's API.
var (
	ModuleConfigs = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "moduleconfigs"}
	Modules       = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "modules"}
)

// Reporter writes status and events.
type Reporter struct {
	Client dynamic.Interface
	Events record.EventRecorder
	Clock  clock.PassiveClock
}

// ConfigStatus is ModuleConfig.status.
type ConfigStatus struct {
	// Version is the newest version of the module's settings.
	Version string `json:"version"`
	Message string `json:"message"`
}

// ModuleConfig writes the status of a ModuleConfig if it differs. A problem, if
// there is one, becomes an event of that reason when it is first told.
func (r *Reporter) ModuleConfig(ctx context.Context, name string, wanted ConfigStatus, problem string) error {
	config, err := r.Client.Resource(ModuleConfigs).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ModuleConfig %s: %w", name, err)
	}
	var current ConfigStatus
	if err := statusOf(config, &current); err != nil {
		return err
	}
	if current == wanted {
		return nil
	}
	if err := r.patchStatus(ctx, ModuleConfigs, name, wanted); err != nil {
		return err
	}
	if problem != "" && current.Message != wanted.Message {
		r.Events.Event(config, corev1.EventTypeWarning, problem, wanted.Message)
	}
	return nil
}

// Properties is Module.properties, which tells about the module's release.
type Properties struct {
	Weight    int    `json:"weight"`
	Source    string `json:"source,omitempty"`
	Stage     string `json:"stage,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Version   string `json:"version,omitempty"`
}

// EnsureModule makes sure that a Module exists and says what it is. A module of
// another version than before has to become ready again.
func (r *Reporter) EnsureModule(ctx context.Context, name string, properties Properties) error {
	before, err := r.Client.Resource(Modules).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read Module %s: %w", name, err)
	}
	if err == nil {
		version, _, _ := unstructured.NestedString(before.Object, "properties", "version")
		phase, _, _ := unstructured.NestedString(before.Object, "status", "phase")
		if version != properties.Version && phase == PhaseReady {
			if err := r.patchStatus(ctx, Modules, name, map[string]string{"phase": PhaseReconciling}); err != nil {
				return err
			}
		}
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&properties)
	if err != nil {
		return err
	}
	module := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": APIVersion,
		"kind":       "Module",
		"metadata":   map[string]any{"name": name, "labels": map[string]any{"heritage": "deckhouse"}},
		"properties": object,
	}}
	options := metav1.ApplyOptions{FieldManager: "deckhouse-host", Force: true}
	if _, err := r.Client.Resource(Modules).Apply(ctx, name, module, options); err != nil {
		return fmt.Errorf("write Module %s: %w", name, err)
	}
	return nil
}

// Module computes the status of a Module from what is seen and writes it if it differs.
func (r *Reporter) Module(ctx context.Context, name string, seen Observation) (Status, error) {
	module, err := r.Client.Resource(Modules).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Status{}, fmt.Errorf("read Module %s: %w", name, err)
	}
	var current Status
	if err := statusOf(module, &current); err != nil {
		return Status{}, err
	}
	next := Next(current, seen, r.Clock.Now())
	if reflect.DeepEqual(current, next) {
		return next, nil
	}
	if err := r.patchStatus(ctx, Modules, name, next); err != nil {
		return Status{}, err
	}
	r.announce(module, current, next)
	return next, nil
}

// announce tells of the changes that somebody may wait for.
func (r *Reporter) announce(module *unstructured.Unstructured, last, next Status) {
	if last.Phase == next.Phase {
		return
	}
	kind, message := corev1.EventTypeNormal, "The module is "+next.Phase+"."
	if next.Phase == PhaseError {
		kind, message = corev1.EventTypeWarning, next.condition(IsReady).Message
	}
	r.Events.Event(module, kind, "Module"+next.Phase, message)
}

func (r *Reporter) patchStatus(ctx context.Context, resource schema.GroupVersionResource, name string, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	if _, err := r.Client.Resource(resource).Patch(ctx, name, types.MergePatchType, raw, metav1.PatchOptions{}, "status"); err != nil {
		return fmt.Errorf("write status of %s %s: %w", resource.Resource, name, err)
	}
	return nil
}

func statusOf(object *unstructured.Unstructured, into any) error {
	status, _, err := unstructured.NestedMap(object.Object, "status")
	if err != nil {
		return fmt.Errorf("read status of %s: %w", object.GetName(), err)
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(status, into)
}
