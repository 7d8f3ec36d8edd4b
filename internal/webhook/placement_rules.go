// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// nodeLabelHint is the remedy for a topology key that is missing.
const nodeLabelHint = "name a node label such as kubernetes.io/hostname"

// rulePlacement checks what the schema leaves to the scheduler. The API server
// would say it too, but of the guest's pod, minutes later and to nobody.
func rulePlacement(before, after *v1alpha2.VirtualMachine, _ machineFacts) field.ErrorList {
	spec, path := &after.Spec, field.NewPath("spec")
	var old v1alpha2.VirtualMachineSpec
	if before != nil {
		old = before.Spec
	}
	var problems field.ErrorList
	if !equality.Semantic.DeepEqual(old.NodeSelector, spec.NodeSelector) {
		problems = append(problems, metav1validation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))...)
	}
	if !equality.Semantic.DeepEqual(old.TopologySpreadConstraints, spec.TopologySpreadConstraints) {
		problems = append(problems, checkSpread(path.Child("topologySpreadConstraints"), spec.TopologySpreadConstraints)...)
	}
	if !equality.Semantic.DeepEqual(old.Tolerations, spec.Tolerations) {
		for i := range spec.Tolerations {
			problems = append(problems, checkToleration(path.Child("tolerations").Index(i), &spec.Tolerations[i])...)
		}
	}
	if spec.Affinity != nil && !equality.Semantic.DeepEqual(old.Affinity, spec.Affinity) {
		problems = append(problems, checkAffinity(path.Child("affinity"), spec.Affinity)...)
	}
	return problems
}

func checkSpread(path *field.Path, constraints []corev1.TopologySpreadConstraint) field.ErrorList {
	var problems field.ErrorList
	for i := range constraints {
		constraint, path := &constraints[i], path.Index(i)
		problems = append(problems, checkTopologyKey(path, constraint.TopologyKey)...)
		if constraint.MaxSkew < 1 {
			problems = append(problems, field.Invalid(path.Child("maxSkew"), constraint.MaxSkew, "must be at least 1"))
		}
		if constraint.WhenUnsatisfiable != corev1.DoNotSchedule && constraint.WhenUnsatisfiable != corev1.ScheduleAnyway {
			problems = append(problems, field.NotSupported(path.Child("whenUnsatisfiable"), constraint.WhenUnsatisfiable,
				[]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
		}
		if domains := constraint.MinDomains; domains != nil && (*domains < 1 || constraint.WhenUnsatisfiable != corev1.DoNotSchedule) {
			problems = append(problems, field.Invalid(path.Child("minDomains"), *domains, "must be at least 1, and needs whenUnsatisfiable: DoNotSchedule"))
		}
		problems = append(problems, checkSelector(path.Child("labelSelector"), constraint.LabelSelector)...)
		isSame := func(other corev1.TopologySpreadConstraint) bool {
			return other.TopologyKey == constraint.TopologyKey && other.WhenUnsatisfiable == constraint.WhenUnsatisfiable
		}
		if slices.ContainsFunc(constraints[:i], isSame) {
			problems = append(problems, field.Duplicate(path, fmt.Sprintf("%s, %s", constraint.TopologyKey, constraint.WhenUnsatisfiable)))
		}
	}
	return problems
}

func checkToleration(path *field.Path, toleration *corev1.Toleration) field.ErrorList {
	var problems field.ErrorList
	if toleration.Key != "" {
		problems = append(problems, metav1validation.ValidateLabelName(toleration.Key, path.Child("key"))...)
	} else if toleration.Operator != corev1.TolerationOpExists {
		problems = append(problems, field.Required(path.Child("key"), "name the taint, or set operator: Exists to accept every taint"))
	}
	switch toleration.Operator {
	case "", corev1.TolerationOpEqual:
		for _, message := range validation.IsValidLabelValue(toleration.Value) {
			problems = append(problems, field.Invalid(path.Child("value"), toleration.Value, message))
		}
	case corev1.TolerationOpExists:
		if toleration.Value != "" {
			problems = append(problems, field.Invalid(path.Child("value"), toleration.Value, "must be left out when operator is Exists"))
		}
	default:
		problems = append(problems, field.NotSupported(path.Child("operator"), toleration.Operator,
			[]corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
	}
	effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
	if toleration.Effect != "" && !slices.Contains(effects, toleration.Effect) {
		problems = append(problems, field.NotSupported(path.Child("effect"), toleration.Effect, effects))
	}
	if toleration.TolerationSeconds != nil && toleration.Effect != corev1.TaintEffectNoExecute {
		problems = append(problems, field.Invalid(path.Child("effect"), toleration.Effect, "must be NoExecute when tolerationSeconds is set"))
	}
	return problems
}

func checkAffinity(path *field.Path, affinity *v1alpha2.Affinity) field.ErrorList {
	var problems field.ErrorList
	if node := affinity.NodeAffinity; node != nil {
		problems = append(problems, checkNodeAffinity(path.Child("nodeAffinity"), node)...)
	}
	if near := affinity.VirtualMachineAndPodAffinity; near != nil {
		problems = append(problems, checkTerms(path.Child("virtualMachineAndPodAffinity"),
			near.RequiredDuringSchedulingIgnoredDuringExecution, near.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	if far := affinity.VirtualMachineAndPodAntiAffinity; far != nil {
		problems = append(problems, checkTerms(path.Child("virtualMachineAndPodAntiAffinity"),
			far.RequiredDuringSchedulingIgnoredDuringExecution, far.PreferredDuringSchedulingIgnoredDuringExecution)...)
	}
	return problems
}

func checkNodeAffinity(path *field.Path, affinity *corev1.NodeAffinity) field.ErrorList {
	var problems field.ErrorList
	if required := affinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		path := path.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
		if len(required.NodeSelectorTerms) == 0 {
			problems = append(problems, field.Required(path, "name at least one alternative"))
		}
		for i := range required.NodeSelectorTerms {
			problems = append(problems, checkNodeTerm(path.Index(i), &required.NodeSelectorTerms[i])...)
		}
	}
	for i := range affinity.PreferredDuringSchedulingIgnoredDuringExecution {
		preferred := &affinity.PreferredDuringSchedulingIgnoredDuringExecution[i]
		path := path.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		problems = append(problems, checkWeight(path.Child("weight"), preferred.Weight)...)
		problems = append(problems, checkNodeTerm(path.Child("preference"), &preferred.Preference)...)
	}
	return problems
}

// nodeOperators are the scheduler's operators in the words of selectors of labels.
var nodeOperators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
	corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

func checkNodeTerm(path *field.Path, term *corev1.NodeSelectorTerm) field.ErrorList {
	var problems field.ErrorList
	for i, requirement := range term.MatchExpressions {
		path := path.Child("matchExpressions").Index(i)
		operator, known := nodeOperators[requirement.Operator]
		if !known {
			problems = append(problems, field.Invalid(path.Child("operator"), requirement.Operator, "must be In, NotIn, Exists, DoesNotExist, Gt or Lt"))
			continue
		}
		if _, err := labels.NewRequirement(requirement.Key, operator, requirement.Values); err != nil {
			problems = append(problems, field.Invalid(path, requirement.Key, err.Error()))
		}
	}
	for i, requirement := range term.MatchFields {
		isOne := requirement.Operator == corev1.NodeSelectorOpIn || requirement.Operator == corev1.NodeSelectorOpNotIn
		if requirement.Key != "metadata.name" || !isOne || len(requirement.Values) != 1 {
			problems = append(problems, field.Invalid(path.Child("matchFields").Index(i), requirement.Key,
				"must be metadata.name with the operator In or NotIn and one node name"))
		}
	}
	return problems
}

func checkTerms(path *field.Path, required []v1alpha2.VirtualMachineAndPodAffinityTerm, preferred []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm) field.ErrorList {
	var problems field.ErrorList
	for i := range required {
		problems = append(problems, checkTerm(path.Child("requiredDuringSchedulingIgnoredDuringExecution").Index(i), &required[i])...)
	}
	for i := range preferred {
		path := path.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i)
		problems = append(problems, checkWeight(path.Child("weight"), preferred[i].Weight)...)
		problems = append(problems, checkTerm(path.Child("virtualMachineAndPodAffinityTerm"), &preferred[i].VirtualMachineAndPodAffinityTerm)...)
	}
	return problems
}

func checkTerm(path *field.Path, term *v1alpha2.VirtualMachineAndPodAffinityTerm) field.ErrorList {
	problems := checkTopologyKey(path, term.TopologyKey)
	problems = append(problems, checkSelector(path.Child("labelSelector"), term.LabelSelector)...)
	problems = append(problems, checkSelector(path.Child("namespaceSelector"), term.NamespaceSelector)...)
	for i, name := range term.Namespaces {
		for _, message := range validation.IsDNS1123Label(name) {
			problems = append(problems, field.Invalid(path.Child("namespaces").Index(i), name, message))
		}
	}
	return problems
}

func checkTopologyKey(path *field.Path, key string) field.ErrorList {
	path = path.Child("topologyKey")
	if key == "" {
		return field.ErrorList{field.Required(path, nodeLabelHint)}
	}
	return metav1validation.ValidateLabelName(key, path)
}

func checkSelector(path *field.Path, selector *metav1.LabelSelector) field.ErrorList {
	return metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
}

func checkWeight(path *field.Path, weight int32) field.ErrorList {
	if weight >= 1 && weight <= 100 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, weight, "must be from 1 to 100")}
}
