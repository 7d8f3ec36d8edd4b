// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// placement is where a workload runs.
type placement string

const (
	onMasters placement = "control plane"
	onSystem  placement = "nodes of the system"
	onAll     placement = "every node"
)

// workloadRule says what is expected of a workload; one that is not in rules is a mistake.
type workloadRule struct {
	placement placement
	// single is a workload that can't have a second replica.
	single bool
}

var rules = map[string]workloadRule{
	"virtualization-controller": {placement: onMasters},
	"virtualization-api":        {placement: onMasters},
	"virt-operator":             {placement: onSystem},
	"cdi-operator":              {placement: onSystem},
	// Its volume can be used on one node at a time.
	"dvcr":      {placement: onSystem, single: true},
	"vm-router": {placement: onAll},
}

// platform is what differs from cluster to cluster and from administrator to administrator.
type platform struct {
	// masters are none where a provider runs the control plane.
	masters int
	// available is the setting highAvailability, nil where nobody set it.
	available *bool
	// dedicated is the role that nodes are set aside for, if any.
	dedicated string
	// autoscaler tells whether the module is on, served whether the cluster knows its kind.
	autoscaler, served bool
}

// platforms are all combinations of what decides about replicas and places; the states of the autoscaler take turns.
func platforms() []platform {
	yes, no := true, false
	autoscalers := []struct{ on, served bool }{{true, true}, {true, false}, {false, true}}
	var all []platform
	for _, masters := range []int{0, 1, 2, 3, 5} {
		for _, available := range []*bool{nil, &yes, &no} {
			for i, dedicated := range []string{"", "system", "virtualization"} {
				autoscaler := autoscalers[(i+masters)%len(autoscalers)]
				all = append(all, platform{masters, available, dedicated, autoscaler.on, autoscaler.served})
			}
		}
	}
	return all
}

func (p platform) String() string {
	available := "unset"
	if p.available != nil {
		available = fmt.Sprint(*p.available)
	}
	return fmt.Sprintf("masters=%d,availability=%s,dedicated=%s,autoscaler=%v,served=%v", p.masters, available, p.dedicated, p.autoscaler, p.served)
}

func (p platform) highlyAvailable() bool {
	if p.available != nil {
		return *p.available
	}
	return p.masters > 1
}

func (p platform) toCase() Case {
	modules := []any{"cni-cilium", "node-manager", "virtualization"}
	if p.autoscaler {
		modules = append(modules, "vertical-pod-autoscaler")
	}
	nodes := map[string]any{}
	if p.dedicated != "" {
		nodes[p.dedicated] = 2
	}
	c := Case{
		Settings: map[string]any{},
		Global: map[string]any{
			"enabledModules": modules,
			"discovery": map[string]any{
				"clusterMasterCount": p.masters, "clusterControlPlaneIsHighlyAvailable": p.masters > 1,
				"clusterDomain": "example.internal", "d8SpecificNodeCountByRole": nodes,
			},
		},
		PlainKubernetes: !p.served,
	}
	if p.available != nil {
		c.Settings["highAvailability"] = *p.available
	}
	return c
}

func TestWorkloadsFollowTheRules(t *testing.T) {
	for _, p := range platforms() {
		t.Run(p.String(), func(t *testing.T) {
			objects := render(t, p.toCase())
			found := workloads(t, objects)
			for _, w := range found {
				rule, known := rules[w.GetName()]
				if !known {
					t.Errorf("%s %s: say in rules what is expected of it", w.GetKind(), w.GetName())
					continue
				}
				checkPlacement(t, p, w, rule)
				checkReplicas(t, p, w, rule)
				checkBudget(t, objects, w)
				checkAutoscaler(t, p, objects, w)
				checkAccount(t, found, w)
			}
			if len(found) != len(rules) {
				t.Errorf("%d workloads, want %d", len(found), len(rules))
			}
			checkEngine(t, p, objects)
		})
	}
}

func checkPlacement(t *testing.T, p platform, w workload, rule workloadRule) {
	t.Helper()
	want := map[string]string{}
	switch {
	case rule.placement == onMasters && p.masters > 0:
		want["node-role.kubernetes.io/control-plane"] = ""
	case rule.placement == onAll:
		want["kubernetes.io/os"] = "linux"
	case p.dedicated != "":
		want["node-role.deckhouse.io/"+p.dedicated] = ""
	}
	if got := w.Template.Spec.NodeSelector; !maps.Equal(got, want) {
		t.Errorf("%s: node selector = %v, want %v", w.GetName(), got, want)
	}
	// The taints that keep others off the nodes that were chosen.
	var taints []corev1.Taint
	if rule.placement != onSystem {
		taints = append(taints, corev1.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule})
	}
	if p.dedicated != "" {
		taints = append(taints, corev1.Taint{Key: "dedicated.deckhouse.io", Value: p.dedicated, Effect: corev1.TaintEffectNoExecute})
	}
	for _, taint := range taints {
		if !bears(w.Template.Spec.Tolerations, taint) {
			t.Errorf("%s: does not bear %s", w.GetName(), taint.ToString())
		}
	}
	if w.GetKind() == "Deployment" {
		checkTrouble(t, w.GetName(), w.Template.Spec.Tolerations)
	}
	if rule.placement == onAll && !slices.Equal(w.Template.Spec.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}) {
		t.Errorf("%s: tolerations = %v, want one for everything", w.GetName(), w.Template.Spec.Tolerations)
	}
}

func bears(tolerations []corev1.Toleration, taint corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(toleration corev1.Toleration) bool { return toleration.ToleratesTaint(&taint) })
}

// checkTrouble makes sure that pods leave a node that is gone, and do not come back to one that is being drained. A
// DaemonSet's are another matter: Kubernetes gives them what they need.
func checkTrouble(t *testing.T, name string, tolerations []corev1.Toleration) {
	t.Helper()
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable, corev1.TaintNodeDiskPressure} {
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			if taint := (corev1.Taint{Key: key, Effect: effect}); bears(tolerations, taint) {
				t.Errorf("%s: bears %s", name, taint.ToString())
			}
		}
	}
}

func checkReplicas(t *testing.T, p platform, w workload, rule workloadRule) {
	t.Helper()
	if w.GetKind() == "DaemonSet" {
		return
	}
	var deployment appsv1.Deployment
	convert(t, w.Object, &deployment)
	want := int32(1)
	switch {
	case rule.single || !p.highlyAvailable():
	case rule.placement == onMasters:
		// Replicas keep apart: more than there are masters would wait for ever, and more than three are of no use.
		want = map[int]int32{0: 2, 1: 2, 2: 2, 3: 3, 5: 3}[p.masters]
	default:
		want = 2
	}
	if got := *deployment.Spec.Replicas; got != want {
		t.Errorf("%s: %d replicas, want %d", w.GetName(), got, want)
	}
	if *deployment.Spec.RevisionHistoryLimit > 2 {
		t.Errorf("%s keeps %d revisions, want at most 2", w.GetName(), *deployment.Spec.RevisionHistoryLimit)
	}
	if want == 1 {
		if w.Template.Spec.Affinity != nil {
			t.Errorf("%s: a single replica keeps apart from itself, so no rollout would end", w.GetName())
		}
		return
	}
	terms := w.Template.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if len(terms) != 1 || terms[0].TopologyKey != corev1.LabelHostname || !selects(terms[0].LabelSelector.MatchLabels, w.Template.Labels) {
		t.Errorf("%s: replicas may share a node: %v", w.GetName(), terms)
	}
	// Kubernetes looks at the terms of those that run, too: the one replica that comes next would have no node.
	if len(terms) == 1 && !slices.Equal(terms[0].MatchLabelKeys, []string{appsv1.DefaultDeploymentUniqueLabelKey}) {
		t.Errorf("%s: replicas keep those of another revision off their nodes", w.GetName())
	}
	if rolling := deployment.Spec.Strategy.RollingUpdate; rolling == nil || rolling.MaxSurge.IntValue() != 0 || rolling.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%s: a rollout needs a node more than there are", w.GetName())
	}
}

// selects tells whether labels are among those of a pod.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, found := labels[key]; !found || got != value {
			return false
		}
	}
	return len(selector) > 0
}

// A drain passes by the pods of a DaemonSet, so these need no budget.
func checkBudget(t *testing.T, objects []Object, w workload) {
	t.Helper()
	object, found := lookup(objects, "PodDisruptionBudget", w.GetName())
	if found == (w.GetKind() == "DaemonSet") {
		t.Errorf("%s %s: has a budget = %v", w.GetKind(), w.GetName(), found)
	}
	if !found {
		return
	}
	var budget policyv1.PodDisruptionBudget
	convert(t, object, &budget)
	if !selects(budget.Spec.Selector.MatchLabels, w.Template.Labels) {
		t.Errorf("%s: the budget is for %v", w.GetName(), budget.Spec.Selector.MatchLabels)
	}
	if budget.Spec.MinAvailable != nil || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%s: the budget may hold up a drain for ever: %v", w.GetName(), budget.Spec)
	}
}

func checkAutoscaler(t *testing.T, p platform, objects []Object, w workload) {
	t.Helper()
	object, found := lookup(objects, "VerticalPodAutoscaler", w.GetName())
	if want := p.autoscaler && p.served; found != want {
		t.Errorf("%s: scaled = %v, want %v", w.GetName(), found, want)
	}
	if !found {
		return
	}
	for path, want := range map[string]any{
		"spec.targetRef.kind": w.GetKind(), "spec.targetRef.name": w.GetName(), "spec.updatePolicy.updateMode": "Initial",
	} {
		if got := at(t, object, path); got != want {
			t.Errorf("%s: %s = %v, want %v", w.GetName(), path, got, want)
		}
	}
	policies, _ := at(t, object, "spec.resourcePolicy.containerPolicies").([]any)
	for i, container := range w.Template.Spec.Containers {
		if i >= len(policies) || policies[i].(map[string]any)["containerName"] != container.Name {
			t.Errorf("%s: no bounds for the container %s", w.GetName(), container.Name)
		}
	}
}

// Two workloads with one account have each other's rights.
func checkAccount(t *testing.T, all []workload, w workload) {
	t.Helper()
	account := w.Template.Spec.ServiceAccountName
	if account == "" || account == "default" {
		t.Errorf("%s has no account of its own", w.GetName())
	}
	for _, other := range all {
		if other.GetName() != w.GetName() && other.Template.Spec.ServiceAccountName == account {
			t.Errorf("%s and %s share the account %s", w.GetName(), other.GetName(), account)
		}
	}
	writes := slices.ContainsFunc(w.Template.Spec.Volumes, func(volume corev1.Volume) bool { return volume.PersistentVolumeClaim != nil })
	if mounted := w.Template.Spec.AutomountServiceAccountToken; writes && (mounted == nil || *mounted) {
		t.Errorf("%s keeps what strangers send and has a token for the API", w.GetName())
	}
}

// checkEngine checks what the engine's operators deploy: it is placed and multiplied by their objects.
func checkEngine(t *testing.T, p platform, objects []Object) {
	t.Helper()
	want := 1.0
	if p.highlyAvailable() {
		want = 2
	}
	kubevirt, cdi := find(t, objects, "KubeVirt", "kubevirt"), find(t, objects, "CDI", "cdi")
	for path, object := range map[string]Object{
		"spec.infra.replicas": kubevirt, "spec.infra.apiServerReplicas": cdi, "spec.infra.deploymentReplicas": cdi,
	} {
		if got := number(t, at(t, object, path)); got != want {
			t.Errorf("%s = %v, want %v", path, got, want)
		}
	}
	place := "map[node-role.kubernetes.io/control-plane:]"
	switch {
	case p.masters == 0 && p.dedicated == "":
		place = "<nil>"
	case p.masters == 0:
		place = "map[node-role.deckhouse.io/" + p.dedicated + ":]"
	}
	for _, selector := range []any{at(t, kubevirt, "spec.infra.nodePlacement.nodeSelector"), at(t, cdi, "spec.infra.nodeSelector")} {
		if got := fmt.Sprint(selector); got != place {
			t.Errorf("node selector of the engine = %v, want %v", got, place)
		}
	}
	checkEngineTolerations(t, kubevirt, "spec.infra.nodePlacement.tolerations")
	checkEngineTolerations(t, cdi, "spec.infra.tolerations")
	// A volume is filled on the node of its machine.
	checkEngineTolerations(t, cdi, "spec.workload.tolerations")
	// The agent is on every node that the tolerations of a class may lead to.
	if got := fmt.Sprint(at(t, kubevirt, "spec.workloads.nodePlacement.tolerations")); got != "[map[operator:Exists]]" {
		t.Errorf("tolerations of the agent = %s, want one for everything", got)
	}
	checkEnginePods(t, p, objects)
	if got := number(t, at(t, find(t, objects, "PriorityClass", "kubevirt-cluster-critical"), "value")); got != 1e9 {
		t.Errorf("priority of the engine = %v, want 1000000000", got)
	}
}

func checkEngineTolerations(t *testing.T, object Object, path string) {
	t.Helper()
	content, err := json.Marshal(at(t, object, path))
	if err != nil {
		t.Fatal(err)
	}
	var tolerations []corev1.Toleration
	if err := json.Unmarshal(content, &tolerations); err != nil {
		t.Fatal(err)
	}
	if taint := (corev1.Taint{Key: "dedicated.deckhouse.io", Value: "machines", Effect: corev1.TaintEffectNoExecute}); !bears(tolerations, taint) {
		t.Errorf("%s %s: does not bear %s", object.GetKind(), path, taint.ToString())
	}
	checkTrouble(t, object.GetKind()+" "+path, tolerations)
}

// operatorPods are what the operators deploy, with all containers of the pods. Where an operator makes budgets itself,
// there are none here.
var operatorPods = map[string]struct {
	kind       string
	containers []string
	budget     bool
}{
	"virt-api":        {"Deployment", []string{"virt-api"}, false},
	"virt-controller": {"Deployment", []string{"virt-controller"}, false},
	"virt-handler":    {"DaemonSet", []string{"virt-handler", "virt-launcher-image-holder"}, false},
	"cdi-apiserver":   {"Deployment", []string{"cdi-apiserver"}, true},
	"cdi-deployment":  {"Deployment", []string{"cdi-deployment"}, true},
}

func checkEnginePods(t *testing.T, p platform, objects []Object) {
	t.Helper()
	for name, want := range operatorPods {
		made := workload{Object: Object{Unstructured: &unstructured.Unstructured{}}}
		made.SetKind(want.kind)
		made.SetName(name)
		for _, container := range want.containers {
			made.Template.Spec.Containers = append(made.Template.Spec.Containers, corev1.Container{Name: container})
		}
		checkAutoscaler(t, p, objects, made)
		object, found := lookup(objects, "PodDisruptionBudget", name)
		if found != want.budget {
			t.Errorf("%s: has a budget = %v, want %v", name, found, want.budget)
		}
		if found && fmt.Sprint(at(t, object, "spec.selector.matchLabels")) != "map[cdi.kubevirt.io:"+name+"]" {
			t.Errorf("%s: the budget is for %v", name, at(t, object, "spec.selector.matchLabels"))
		}
	}
}
