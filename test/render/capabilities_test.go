// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// since178 is a platform with the role model of capabilities.
var since178 = matrix["role model of Deckhouse 1.78"]

// Levels of the roles that capabilities join, the lowest first.
var (
	namespaceLevels = []string{"viewer", "user", "manager", "admin", "superadmin"}
	systemLevels    = []string{"viewer", "manager", "superadmin"}
)

// The version of the platform decides which role model there is, one or the other.
func TestRoleModelFollowsThePlatform(t *testing.T) {
	for version, newer := range map[string]bool{
		"1.74.2": false, "v1.74.2": false, "v1.77.9": false, "1.78.0": true, "v1.78.0-rc.1": true, "v1.100.3": true, "v2.0.1": true,
		// Such a build may come from any branch.
		"dev": true, "": true,
	} {
		objects := render(t, Case{Global: map[string]any{"deckhouseVersion": version}})
		kinds := map[string]int{}
		for _, role := range roles(t, objects) {
			kinds[role.GetLabels()["rbac.deckhouse.io/kind"]]++
		}
		delete(kinds, "")
		want := map[string]int{"use": 11, "manage": 6}
		if newer {
			want = map[string]int{"capability": 10, "role": 3}
		}
		if !maps.Equal(kinds, want) {
			t.Errorf("%q: roles %v, want %v", version, kinds, want)
		}
	}
}

// inNamespace is what a role of the platform for a namespace holds of ours: it takes in the
// capabilities of its level and the role before it.
func inNamespace(t *testing.T, objects []Object, level string) []rbacv1.PolicyRule {
	t.Helper()
	var held []rbacv1.PolicyRule
	for _, before := range namespaceLevels[:slices.Index(namespaceLevels, level)+1] {
		for _, role := range roles(t, objects) {
			if role.GetLabels()["rbac.deckhouse.io/aggregate-to-namespace-as"] == before {
				held = append(held, role.Rules...)
			}
		}
	}
	return held
}

// Both models give what the table says, and so do the roles under their older names.
func TestCapabilities(t *testing.T) {
	table, objects := published(t), render(t, since178)
	for column, current := range table.Levels {
		for name, use := range map[string][]rbacv1.PolicyRule{
			"d8:namespace:" + current.Use:                    inNamespace(t, objects, current.Use),
			"d8:use:role:" + current.Use + ":virtualization": aggregated(t, objects, "d8:use:role:"+current.Use+":virtualization"),
		} {
			for _, row := range table.Resources {
				if got := verbsOn(use, group, row.Name); row.Cluster && got != nil {
					t.Errorf("%s may %v %s by a role that is bound in a namespace, where that is no use", name, got, row.Name)
				}
			}
			held := slices.Concat(dictionary, use)
			if current.Manage == "" {
				table.compare(t, name, column, held)
				continue
			}
			for _, manage := range []string{"d8:subsystem:virtualization:", "d8:manage:virtualization:"} {
				table.compare(t, name+" with "+manage+current.Manage, column, slices.Concat(held, aggregated(t, objects, manage+current.Manage)))
			}
		}
	}
}

// Nothing is lost by the change of the model, the right to read and change the settings included.
func TestModelsGiveTheSame(t *testing.T) {
	older, newer := render(t, Case{}), render(t, since178)
	for _, level := range systemLevels {
		was := sortedRules(aggregated(t, older, "d8:manage:virtualization:"+level))
		for _, name := range []string{"d8:subsystem:virtualization:", "d8:manage:virtualization:"} {
			if is := sortedRules(aggregated(t, newer, name+level)); !reflect.DeepEqual(is, was) {
				t.Errorf("%s%s: %v, was %v", name, level, is, was)
			}
		}
	}
}

func sortedRules(rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, rule := range rules {
		out = append(out, rule.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// What the platform and its console find roles by. The values are those of the contract that Deckhouse's linter checks.
func TestLabelsOfCapabilities(t *testing.T) {
	objects := render(t, since178)
	for name, want := range map[string]map[string]string{
		"d8:namespace-capability:virtualization:view": {
			"kind": "capability", "scope": "namespace", "capability": "namespace-capability.virtualization.view", "aggregate-to-namespace-as": "viewer",
		},
		"d8:system-capability:virtualization:edit": {
			"kind": "capability", "scope": "system", "capability": "system-capability.virtualization.edit", "namespace": "d8-virtualization",
			"aggregate-to-virtualization-as": "manager",
		},
		"d8:subsystem:virtualization:viewer": {
			"kind": "role", "scope": "subsystem", "subsystem": "virtualization", "use-role": "viewer",
			"aggregate-to-virtualization-as": "manager", "aggregate-to-system-as": "viewer",
		},
		"d8:subsystem:virtualization:superadmin": {
			"kind": "role", "scope": "subsystem", "subsystem": "virtualization", "use-role": "admin", "aggregate-to-system-as": "superadmin",
		},
		"d8:use:role:admin:virtualization": {"deprecated": "true", "delegatable": "true"},
		"d8:manage:virtualization:manager": {"deprecated": "true"},
	} {
		got := map[string]string{}
		for label, value := range find(t, objects, "ClusterRole", name).GetLabels() {
			if key, ours := strings.CutPrefix(label, "rbac.deckhouse.io/"); ours {
				got[key] = value
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: labels %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"d8:use:role:manager:virtualization": "d8:namespace:manager",
		"d8:manage:virtualization:viewer":    "d8:subsystem:virtualization:viewer",
	} {
		if got := find(t, objects, "ClusterRole", name).GetAnnotations()["rbac.deckhouse.io/deprecated-replaced-by"]; got != want {
			t.Errorf("%s is replaced by %q, want %q", name, got, want)
		}
	}
}

// The rules that hold for every role of the newer model.
func TestContractOfCapabilities(t *testing.T) {
	objects := render(t, since178)
	markers := map[string]string{}
	for _, role := range roles(t, objects) {
		if !strings.HasPrefix(role.Template, "templates/rbacv2") {
			continue
		}
		checkTexts(t, role)
		labels := role.GetLabels()
		checkLevels(t, role)
		switch labels["rbac.deckhouse.io/kind"] {
		case "capability":
			marker := labels["rbac.deckhouse.io/capability"]
			if other := markers[marker]; other != "" || len(validation.IsValidLabelValue(marker)) > 0 {
				t.Errorf("%s: the mark %q is no good, or that of %q", role.GetName(), marker, other)
			}
			markers[marker] = role.GetName()
			prefix := "d8:" + labels["rbac.deckhouse.io/scope"] + "-capability:virtualization:"
			if !strings.HasPrefix(role.GetName(), prefix) || len(role.Rules) == 0 || role.Object.Object["aggregationRule"] != nil {
				t.Errorf("%s is no capability: its name begins with %s, and it has rules of its own alone", role.GetName(), prefix)
			}
		case "role":
			checkSum(t, objects, role)
		}
	}
	if len(markers) != 10 {
		t.Errorf("%d capabilities, want 10", len(markers))
	}
}

// checkTexts: the console shows what a role is for, in the language of who looks.
func checkTexts(t *testing.T, role role) {
	t.Helper()
	cyrillic := regexp.MustCompile(`\p{Cyrillic}`)
	for _, language := range []string{"en", "ru"} {
		for _, text := range []string{"title", "description"} {
			got := role.GetAnnotations()[language+".meta.deckhouse.io/"+text]
			if got == "" || cyrillic.MatchString(got) != (language == "ru") || strings.HasSuffix(got, ".") != (text == "description") {
				t.Errorf("%s: %s in %s: %q", role.GetName(), text, language, got)
			}
		}
	}
}

// checkLevels: a role that joins a level which its lineage does not have is of no effect.
func checkLevels(t *testing.T, role role) {
	t.Helper()
	lineages := map[string][]string{"namespace": namespaceLevels, "system": systemLevels, "virtualization": systemLevels}
	joins := 0
	for label, level := range role.GetLabels() {
		lineage, found := strings.CutPrefix(label, "rbac.deckhouse.io/aggregate-to-")
		if !found {
			continue
		}
		joins++
		if !slices.Contains(lineages[strings.TrimSuffix(lineage, "-as")], level) {
			t.Errorf("%s: there is no level %s of %s", role.GetName(), level, lineage)
		}
	}
	if role.GetLabels()["rbac.deckhouse.io/kind"] != "" && joins == 0 {
		t.Errorf("%s joins nothing", role.GetName())
	}
}

// checkSum: a role of a subsystem is bound in the cluster, where what is left of the older model must not get to.
func checkSum(t *testing.T, objects []Object, role role) {
	t.Helper()
	var decoded rbacv1.ClusterRole
	convert(t, role.Object, &decoded)
	if !slices.Contains(namespaceLevels, role.GetLabels()["rbac.deckhouse.io/use-role"]) {
		t.Errorf("%s: there is no role %q for its bearer in the module's namespace", role.GetName(), role.GetLabels()["rbac.deckhouse.io/use-role"])
	}
	for _, name := range takenIn(t, objects, decoded) {
		if !strings.HasPrefix(name, "d8:system-capability:virtualization:") && !strings.HasPrefix(name, "d8:subsystem:virtualization:") {
			t.Errorf("%s takes in %s", role.GetName(), name)
		}
	}
	older := render(t, Case{})
	for _, name := range takenIn(t, older, decoded) {
		if strings.HasPrefix(name, "d8:use:") {
			t.Errorf("%s would take in %s", role.GetName(), name)
		}
	}
}
