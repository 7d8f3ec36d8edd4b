// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// rights is test/rbac/rights.yaml, the published table.
type rights struct {
	Levels []struct {
		Level, Role, Use, Manage string
	}
	Verbs     map[string][]string
	Resources []struct {
		Name    string
		Cluster bool
		Cells   []string
	}
	Streams []struct {
		Name string
		Open []bool
	}
	Closed []string
}

func published(t *testing.T) *rights {
	t.Helper()
	text, err := os.ReadFile("../rbac/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	table := &rights{}
	if err := yaml.Unmarshal(text, table); err != nil {
		t.Fatal(err)
	}
	if len(table.Levels) != 6 || len(table.Resources) != 9 || len(table.Streams) != 3 || len(table.Closed) != 5 {
		t.Fatalf("the table is not whole: %+v", table)
	}
	return table
}

// verbsOf are the verbs of a cell, sorted.
func (r *rights) verbsOf(cell string) []string {
	var verbs []string
	for _, letter := range strings.Trim(cell, "-") {
		verbs = append(verbs, r.Verbs[string(letter)]...)
	}
	slices.Sort(verbs)
	return verbs
}

const group, streamGroup = "virtualization.deckhouse.io", "subresources.virtualization.deckhouse.io"

// compare holds what somebody may do against a column of the table.
func (r *rights) compare(t *testing.T, who string, column int, held []rbacv1.PolicyRule) {
	t.Helper()
	for _, row := range r.Resources {
		if got, want := verbsOn(held, group, row.Name), r.verbsOf(row.Cells[column]); !slices.Equal(got, want) {
			t.Errorf("%s may %v %s, want %v", who, got, row.Name, want)
		}
	}
	for _, row := range r.Streams {
		var want []string
		if row.Open[column] {
			want = []string{"create", "get", "update"}
		}
		if got := verbsOn(held, streamGroup, "virtualmachines/"+row.Name); !slices.Equal(got, want) {
			t.Errorf("%s may %v %s, want %v", who, got, row.Name, want)
		}
	}
	for _, name := range r.Closed {
		if got := verbsOn(held, streamGroup, "virtualmachines/"+name); got != nil {
			t.Errorf("%s may %v %s", who, got, name)
		}
	}
	// Clients look for the machine in both groups.
	if got := verbsOn(held, streamGroup, "virtualmachines"); !slices.Equal(got, []string{"get", "list", "watch"}) {
		t.Errorf("%s may %v machines in %s", who, got, streamGroup)
	}
	r.checkNothingElse(t, who, held)
}

// checkNothingElse: no other resource, and above all none of the engine and no plugging of volumes past the attachments.
func (r *rights) checkNothingElse(t *testing.T, who string, held []rbacv1.PolicyRule) {
	t.Helper()
	known := map[string][]string{group: {}, streamGroup: {"virtualmachines"}}
	for _, row := range r.Resources {
		known[group] = append(known[group], row.Name)
	}
	for _, row := range r.Streams {
		known[streamGroup] = append(known[streamGroup], "virtualmachines/"+row.Name)
	}
	for _, rule := range held {
		if slices.Equal(rule.APIGroups, []string{"deckhouse.io"}) && slices.Equal(rule.ResourceNames, []string{"virtualization"}) {
			if !slices.Equal(rule.Resources, []string{"moduleconfigs"}) {
				t.Errorf("%s may %v", who, rule)
			}
			continue
		}
		for _, name := range rule.APIGroups {
			for _, resource := range rule.Resources {
				if !slices.Contains(known[name], resource) {
					t.Errorf("%s has rights on %s of %q", who, resource, name)
				}
			}
		}
	}
}

// user-authz binds the roles of an access level and of all before it.
func TestAccessLevels(t *testing.T) {
	table, objects := published(t), render(t, Case{})
	var held []rbacv1.PolicyRule
	for column, current := range table.Levels {
		name := "d8:user-authz:virtualization:" + current.Role
		if got := find(t, objects, "ClusterRole", name).GetAnnotations()["user-authz.deckhouse.io/access-level"]; got != current.Level {
			t.Errorf("%s: access level %q, want %q", name, got, current.Level)
		}
		held = append(held, rulesOf(t, objects, name)...)
		table.compare(t, current.Level, column, held)
	}
	annotated := 0
	for _, object := range objects {
		if _, found := object.GetAnnotations()["user-authz.deckhouse.io/access-level"]; found {
			annotated++
		}
	}
	if annotated != len(table.Levels) {
		t.Errorf("%d roles have an access level, want %d", annotated, len(table.Levels))
	}
}

// dictionary is what Deckhouse's role d8:use:dict, and d8:dict since 1.78, gives of our kinds to everybody who has a role in some namespace.
var dictionary = []rbacv1.PolicyRule{{
	APIGroups: []string{group}, Resources: []string{"virtualmachineclasses", "clustervirtualimages"}, Verbs: []string{"get", "list", "watch"},
}}

// The role model before Deckhouse 1.78: one role bound in a namespace, one bound in the cluster.
func TestUseAndManage(t *testing.T) {
	table, objects := published(t), render(t, Case{})
	for column, current := range table.Levels {
		held := slices.Clone(dictionary)
		use := aggregated(t, objects, "d8:use:role:"+current.Use+":virtualization")
		for _, row := range table.Resources {
			if got := verbsOn(use, group, row.Name); row.Cluster && got != nil {
				t.Errorf("%s may %v %s by a role that is bound in a namespace, where that is no use", current.Use, got, row.Name)
			}
		}
		held = append(held, use...)
		if current.Manage != "" {
			held = append(held, aggregated(t, objects, "d8:manage:virtualization:"+current.Manage)...)
		}
		table.compare(t, current.Level, column, held)
	}
}

// aggregated is what the control plane makes of a role: the rules of all roles that it selects, and of those that they select.
func aggregated(t *testing.T, objects []Object, name string) []rbacv1.PolicyRule {
	t.Helper()
	var current rbacv1.ClusterRole
	convert(t, find(t, objects, "ClusterRole", name), &current)
	if current.AggregationRule == nil {
		return current.Rules
	}
	if _, found := find(t, objects, "ClusterRole", name).Object["rules"]; found {
		t.Errorf("%s has rules of its own, and be they none: they are the control plane's", name)
	}
	var held []rbacv1.PolicyRule
	for _, other := range takenIn(t, objects, current) {
		held = append(held, aggregated(t, objects, other)...)
	}
	if len(held) == 0 {
		t.Errorf("%s selects nothing", name)
	}
	return held
}

// Deckhouse finds roles by these labels, and gives whoever manages the module the role use-role in its namespace.
func TestLabelsOfUseAndManage(t *testing.T) {
	objects := render(t, Case{})
	for name, want := range map[string]map[string]string{
		"d8:use:role:viewer:virtualization":  {"kind": "use", "aggregate-to-all-as": "viewer", "aggregate-to-virtualization-as": "user"},
		"d8:use:role:user:virtualization":    {"kind": "use", "aggregate-to-all-as": "user", "aggregate-to-virtualization-as": "manager"},
		"d8:use:role:manager:virtualization": {"kind": "use", "aggregate-to-all-as": "manager", "aggregate-to-virtualization-as": "admin"},
		"d8:use:role:admin:virtualization":   {"kind": "use", "aggregate-to-all-as": "admin"},
		"d8:manage:virtualization:viewer": {
			"kind": "manage", "level": "subsystem", "subsystem": "virtualization", "use-role": "viewer",
			"aggregate-to-all-as": "viewer", "aggregate-to-virtualization-as": "manager",
		},
		"d8:manage:virtualization:manager": {
			"kind": "manage", "level": "subsystem", "subsystem": "virtualization", "use-role": "user",
			"aggregate-to-all-as": "manager", "aggregate-to-virtualization-as": "superadmin",
		},
		"d8:manage:virtualization:superadmin": {
			"kind": "manage", "level": "subsystem", "subsystem": "virtualization", "use-role": "admin",
			"aggregate-to-all-as": "superadmin",
		},
		"d8:use:capability:virtualization:access_console": {"kind": "use", "aggregate-to-virtualization-as": "user"},
		"d8:manage:permission:subsystem:virtualization:manage_leases": {
			"kind": "manage", "level": "module", "namespace": "d8-virtualization", "aggregate-to-virtualization-as": "superadmin",
		},
	} {
		got := map[string]string{}
		for label, value := range find(t, objects, "ClusterRole", name).GetLabels() {
			if key, ours := strings.CutPrefix(label, "rbac.deckhouse.io/"); ours {
				got[key] = value
			}
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s=%q, want %q", name, key, got[key], value)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: labels %v, want %v", name, got, want)
		}
	}
}

// A role is either a part or a sum; a part that no sum takes in would be of no use.
func TestEveryPartIsTakenIn(t *testing.T) {
	objects := render(t, Case{})
	taken := map[string]bool{}
	for _, role := range []string{"d8:use:role:admin:virtualization", "d8:manage:virtualization:superadmin"} {
		mark(t, objects, role, taken)
	}
	for _, role := range roles(t, objects) {
		name := role.GetName()
		if (strings.HasPrefix(name, "d8:use:") || strings.HasPrefix(name, "d8:manage:")) && !taken[name] {
			t.Errorf("%s is in no role", name)
		}
	}
}

func mark(t *testing.T, objects []Object, name string, taken map[string]bool) {
	t.Helper()
	taken[name] = true
	var current rbacv1.ClusterRole
	convert(t, find(t, objects, "ClusterRole", name), &current)
	if current.AggregationRule == nil {
		return
	}
	for _, other := range takenIn(t, objects, current) {
		if !taken[other] {
			mark(t, objects, other, taken)
		}
	}
}

// takenIn are the names of the roles that a role takes in.
func takenIn(t *testing.T, objects []Object, current rbacv1.ClusterRole) []string {
	t.Helper()
	var names []string
	for i := range current.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&current.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range roles(t, objects) {
			if selector.Matches(labels.Set(other.GetLabels())) {
				names = append(names, other.GetName())
			}
		}
	}
	return names
}
