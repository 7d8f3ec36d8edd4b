// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package requirements

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/settings"
)

// The condition of the Module, and its reasons.
const (
	ConditionType = "RequirementsMet"
	ReasonMet     = "Met"
	ReasonUnmet   = "Unmet"
)

var profiles = schema.GroupVersionResource{Group: "cdi.kubevirt.io", Version: "v1beta1", Resource: "storageprofiles"}

// sharedClasses asks the engine for the classes with shared volumes; nil while it does not know any class.
func sharedClasses(ctx context.Context, input *pkg.HookInput) ([]string, error) {
	cluster, err := lookup.Of(input.DC)
	if err != nil {
		return nil, err
	}
	list, err := cluster.List(ctx, profiles)
	if err != nil {
		return nil, err
	}
	var shared []string
	for i := range list {
		sets, known, _ := unstructured.NestedSlice(list[i].Object, "status", "claimPropertySets")
		if known && shared == nil {
			shared = []string{}
		}
		if slices.ContainsFunc(sets, offersSharing) {
			shared = append(shared, list[i].GetName())
		}
	}
	return shared, nil
}

func offersSharing(set any) bool {
	properties, _ := set.(map[string]any)
	modes, _, _ := unstructured.NestedStringSlice(properties, "accessModes")
	return slices.Contains(modes, "ReadWriteMany")
}

// noteFor is the change of a node's label and annotation; nil when they are right.
func noteFor(n Node, emulated bool) map[string]any {
	if n.OS != "linux" {
		return nil
	}
	label, note := "", []string{}
	switch n.KVM {
	case "":
	case "0":
		label = "false"
		if !emulated {
			note = append(note, "no hardware virtualization (/dev/kvm)")
		}
	default:
		label = "true"
	}
	if !kernelSupported(n.Kernel) {
		note = append(note, fmt.Sprintf("kernel %s is older than %d.%d", n.Kernel, kernelMajor, kernelMinor))
	}
	text := strings.Join(note, "; ")
	// What the engine has not looked at yet stays as it was said last: it is restarting.
	if label == "" {
		label = n.Label
	}
	if label == n.Label && text == n.Note {
		return nil
	}
	return map[string]any{"metadata": map[string]any{
		"labels":      map[string]any{settings.NodeKVMLabel: orNull(label)},
		"annotations": map[string]any{settings.NodeNoteAnnotation: orNull(text)},
	}}
}

// orNull removes what is empty, as merge patches do it.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// condition is one of a Module's.
type condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message,omitempty"`
	LastTransitionTime string `json:"lastTransitionTime"`
}

// seenModule is what an earlier run has written; nothing yet leaves the condition empty.
type seenModule struct {
	Name      string    `json:"name"`
	Condition condition `json:"condition"`
}

// tell puts the verdicts into the Module's conditions, beside those of Deckhouse.
func tell(input *pkg.HookInput, verdicts []verdict) error {
	existing, err := objectpatch.UnmarshalToStruct[seenModule](input.Snapshots, module)
	if err != nil {
		return fmt.Errorf("read Module %s: %w", settings.Module, err)
	}
	if len(existing) == 0 {
		return nil
	}
	last, wanted := existing[0].Condition, conditionFrom(verdicts)
	wanted.LastTransitionTime = last.LastTransitionTime
	if last == wanted {
		return nil
	}
	if last.Status != wanted.Status {
		wanted.LastTransitionTime = input.DC.GetClock().Now().UTC().Format(time.RFC3339)
	}
	raw, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	input.PatchCollector.PatchWithJQ(fmt.Sprintf(`%s | .status.conditions += [%s]`, Forget, raw),
		"deckhouse.io/v1alpha1", "Module", "", settings.Module, objectpatch.WithSubresource("/status"), objectpatch.WithIgnoreMissingObject(true))
	return nil
}

// Forget is the jq expression that takes the condition out of a Module.
const Forget = `.status.conditions = ((.status.conditions // []) | map(select(.type != "` + ConditionType + `")))`

func conditionFrom(verdicts []verdict) condition {
	var problems []string
	for _, each := range verdicts {
		if each.problem != "" {
			problems = append(problems, strings.ToUpper(each.problem[:1])+each.problem[1:]+".")
		}
	}
	if len(problems) == 0 {
		return condition{Type: ConditionType, Status: "True", Reason: ReasonMet}
	}
	return condition{Type: ConditionType, Status: "False", Reason: ReasonUnmet, Message: strings.Join(problems, " ")}
}
