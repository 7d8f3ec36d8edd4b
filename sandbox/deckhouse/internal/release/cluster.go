// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/report"
)

// source is a ModuleSource.
type source struct {
	object   *unstructured.Unstructured
	Registry Registry
}

// get returns nil for an object that does not exist.
func (k *Keeper) get(ctx context.Context, resource schema.GroupVersionResource, name string) (*unstructured.Unstructured, error) {
	object, err := k.Client.Resource(resource).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", resource.Resource, name, err)
	}
	return object, nil
}

func text(object *unstructured.Unstructured, fields ...string) string {
	if object == nil {
		return ""
	}
	// A field of another type is as good as none: the schema keeps them out.
	found, _, _ := unstructured.NestedString(object.Object, fields...)
	return found
}

// source is the one that the ModuleConfig names, or else the only one.
func (k *Keeper) source(ctx context.Context) (*source, error) {
	config, err := k.get(ctx, report.ModuleConfigs, k.Module)
	if err != nil {
		return nil, err
	}
	list, err := k.Client.Resource(Sources).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list ModuleSources: %w", err)
	}
	wanted := text(config, "spec", "source")
	for i := range list.Items {
		object := &list.Items[i]
		if object.GetDeletionTimestamp() == nil && (object.GetName() == wanted || wanted == "" && len(list.Items) == 1) {
			return &source{object: object, Registry: Registry{
				Module: text(object, "spec", "registry", "repo") + "/" + k.Module,
				Plain:  text(object, "spec", "registry", "scheme") == "HTTP",
			}}, nil
		}
	}
	return nil, nil
}

func (k *Keeper) policy(ctx context.Context) (Policy, error) {
	config, err := k.get(ctx, report.ModuleConfigs, k.Module)
	if err != nil {
		return Policy{}, err
	}
	name := text(config, "spec", "updatePolicy")
	if name == "" {
		return defaultPolicy, nil
	}
	object, err := k.get(ctx, Policies, name)
	if err != nil {
		return Policy{}, err
	}
	if object == nil {
		return Policy{}, fmt.Errorf("there is no ModuleUpdatePolicy %s, which the ModuleConfig %s names", name, k.Module)
	}
	var update struct {
		Mode    string   `json:"mode"`
		Windows []Window `json:"windows"`
	}
	raw, _, err := unstructured.NestedMap(object.Object, "spec", "update")
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &update)
	}
	if err != nil {
		return Policy{}, fmt.Errorf("ModuleUpdatePolicy %s: spec.update: %w", name, err)
	}
	return Policy{Name: name, Channel: text(object, "spec", "releaseChannel"), Mode: update.Mode, Windows: update.Windows}, nil
}

// releases lists those of the module. One of a version that can't be read is nobody's.
func (k *Keeper) releases(ctx context.Context) ([]Release, error) {
	list, err := k.Client.Resource(Releases).List(ctx, metav1.ListOptions{LabelSelector: moduleLabel + "=" + k.Module})
	if err != nil {
		return nil, fmt.Errorf("list ModuleReleases: %w", err)
	}
	var found []Release
	for i := range list.Items {
		object := &list.Items[i]
		version, err := semver.NewVersion(text(object, "spec", "version"))
		if err != nil {
			return nil, fmt.Errorf("ModuleRelease %s: spec.version: %w", object.GetName(), err)
		}
		var requirements definition.Requirements
		raw, _, err := unstructured.NestedMap(object.Object, "spec", "requirements")
		if err == nil {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &requirements)
		}
		if err != nil {
			return nil, fmt.Errorf("ModuleRelease %s: spec.requirements: %w", object.GetName(), err)
		}
		found = append(found, Release{
			Version: version, Phase: text(object, "status", "phase"),
			Approved: object.GetAnnotations()[ApprovedAnnotation] == "true", Now: object.GetAnnotations()[ApplyNowAnnotation] == "true",
			Unmet: requirements.Unmet(k.Platform),
		})
	}
	return found, nil
}

// override is the tag of a ModulePullOverride of the module: it runs whatever is released.
func (k *Keeper) override(ctx context.Context) (string, error) {
	object, err := k.get(ctx, Overrides, k.Module)
	if err != nil || object == nil || object.GetDeletionTimestamp() != nil {
		return "", err
	}
	return text(object, "spec", "imageTag"), nil
}

func (k *Keeper) releaseName(version *semver.Version) string {
	return k.Module + "-v" + version.String()
}

// create makes the ModuleRelease of what the channel offers. It goes with its source.
func (k *Keeper) create(ctx context.Context, from *source, policy Policy, offer Offer) error {
	read, err := definition.Parse(offer.Definition)
	if err != nil {
		return err
	}
	spec := map[string]any{"moduleName": k.Module, "version": "v" + offer.Version.String()}
	if spec["requirements"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(&read.Requirements); err != nil {
		return err
	}
	var changelog map[string]any
	if err := yaml.Unmarshal(offer.Changelog, &changelog); err != nil {
		return fmt.Errorf("changelog.yaml of v%s: %w", offer.Version, err)
	}
	if changelog != nil {
		spec["changelog"] = changelog
	}
	release := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": report.APIVersion, "kind": "ModuleRelease", "spec": spec,
		"metadata": map[string]any{
			"name":   k.releaseName(offer.Version),
			"labels": map[string]any{moduleLabel: k.Module, sourceLabel: from.object.GetName(), policyLabel: policy.Name},
			"ownerReferences": []any{map[string]any{
				"apiVersion": report.APIVersion, "kind": "ModuleSource", "name": from.object.GetName(),
				"uid": string(from.object.GetUID()), "controller": true,
			}},
		},
	}}
	_, err = k.Client.Resource(Releases).Create(ctx, release, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make ModuleRelease %s: %w", release.GetName(), err)
	}
	return nil
}

// tellRelease writes what became of a release, if that is news.
func (k *Keeper) tellRelease(ctx context.Context, verdict Verdict) error {
	name := k.releaseName(verdict.Version)
	object, err := k.get(ctx, Releases, name)
	if err != nil || object == nil {
		return err
	}
	var current Status
	if err := statusOf(object, &current); err != nil {
		return err
	}
	next := Status{
		Phase: verdict.Phase, Message: verdict.Message, TransitionTime: current.TransitionTime,
		Approved: object.GetAnnotations()[ApprovedAnnotation] == "true",
	}
	if current.Phase != next.Phase {
		next.TransitionTime = k.Clock.Now().UTC().Format(time.RFC3339)
	}
	if current == next {
		return nil
	}
	return k.patchStatus(ctx, Releases, name, next)
}

// tellSource writes what the source has, if that is news.
func (k *Keeper) tellSource(ctx context.Context, from *source, policy Policy, offer Offer, pullError error) error {
	var current sourceStatus
	if err := statusOf(from.object, &current); err != nil {
		return err
	}
	one := sourceModule{Name: k.Module, Policy: policy.Name}
	next := sourceStatus{Phase: "Active", ModulesCount: 1}
	if pullError != nil {
		one.PullError = fmt.Sprintf("channel %s: %v", policy.Channel, pullError)
		next.Message = "Some errors occurred. Inspect status for details"
	} else {
		one.Version = "v" + offer.Version.String()
	}
	next.Modules = []sourceModule{one}
	if reflect.DeepEqual(current, next) {
		return nil
	}
	return k.patchStatus(ctx, Sources, from.object.GetName(), next)
}

func (k *Keeper) patchStatus(ctx context.Context, resource schema.GroupVersionResource, name string, status any) error {
	raw, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = k.Client.Resource(resource).Patch(ctx, name, types.MergePatchType, raw, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write status of %s %s: %w", strings.TrimSuffix(resource.Resource, "s"), name, err)
	}
	return nil
}

func statusOf(object *unstructured.Unstructured, into any) error {
	raw, _, err := unstructured.NestedMap(object.Object, "status")
	if err != nil {
		return fmt.Errorf("read status of %s: %w", object.GetName(), err)
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(raw, into)
}
