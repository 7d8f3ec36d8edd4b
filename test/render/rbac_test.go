// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// engineRoles hand out wildcards of KubeVirt's and CDI's own groups, so their operators have to hold them.
var engineRoles = map[string][]string{
	"d8:virtualization:kubevirt-operator": {"kubevirt.io", "cdi.kubevirt.io"},
	"d8:virtualization:cdi-operator":      {"cdi.kubevirt.io", "upload.cdi.kubevirt.io", "forklift.cdi.kubevirt.io"},
}

type role struct {
	Object
	Rules []rbacv1.PolicyRule `json:"rules"`
}

func roles(t *testing.T, objects []Object) []role {
	t.Helper()
	var found []role
	for _, object := range objects {
		if object.GetKind() == "Role" || object.GetKind() == "ClusterRole" {
			current := role{Object: object}
			var decoded struct {
				Rules []rbacv1.PolicyRule `json:"rules"`
			}
			convert(t, object, &decoded)
			current.Rules = decoded.Rules
			found = append(found, current)
		}
	}
	return found
}

func TestRolesHoldNoWildcard(t *testing.T) {
	for _, role := range roles(t, render(t, Case{})) {
		for _, rule := range role.Rules {
			words := slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs)
			if !slices.ContainsFunc(words, func(word string) bool { return strings.Contains(word, "*") }) {
				continue
			}
			groups, engine := engineRoles[role.GetName()]
			if !engine {
				t.Errorf("%s %s: wildcard in %v", role.GetKind(), role.GetName(), rule)
				continue
			}
			for _, group := range rule.APIGroups {
				if !slices.Contains(groups, group) {
					t.Errorf("%s: wildcard in the group %q, which is not the engine's", role.GetName(), group)
				}
			}
		}
	}
}

// Rights that would let a taken-over component take over the cluster.
func TestRolesOfOursAreNarrow(t *testing.T) {
	for _, role := range roles(t, render(t, Case{})) {
		if _, engine := engineRoles[role.GetName()]; engine || strings.Contains(role.Template, "/operator/") {
			continue
		}
		for _, rule := range role.Rules {
			for _, verb := range []string{"escalate", "bind", "impersonate"} {
				if slices.Contains(rule.Verbs, verb) {
					t.Errorf("%s may %s", role.GetName(), verb)
				}
			}
			for _, resource := range rule.Resources {
				if slices.Contains([]string{"pods/exec", "nodes/proxy", "serviceaccounts/token", "clusterroles", "clusterrolebindings"}, resource) {
					t.Errorf("%s has rights on %s", role.GetName(), resource)
				}
			}
		}
	}
}

func TestRightsOfComponents(t *testing.T) {
	objects := render(t, Case{})
	tests := []struct {
		role, group, resource string
		verbs                 string
	}{
		{"d8:virtualization:virtualization-controller", "virtualization.deckhouse.io", "virtualmachines", "get list patch watch"},
		{"d8:virtualization:virtualization-controller", "virtualization.deckhouse.io", "virtualmachineipaddressleases", "create delete get list patch watch"},
		{"d8:virtualization:virtualization-controller", "kubevirt.io", "virtualmachines", "create delete get list patch watch"},
		{"d8:virtualization:virtualization-controller", "kubevirt.io", "kubevirts", ""},
		{"d8:virtualization:virtualization-controller", "", "secrets", "create delete get list patch watch"},
		{"d8:virtualization:virtualization-controller", "", "nodes", "get list watch"},
		{"virtualization-controller", "", "services", "create delete get list patch watch"},
		{"virtualization-controller", "networking.k8s.io", "ingresses", "create delete get list patch watch"},
		{"d8:virtualization:virtualization-controller", "networking.k8s.io", "ingresses", ""},
		{"d8:virtualization:virtualization-api", "subresources.kubevirt.io", "virtualmachineinstances/console", "get"},
		{"d8:virtualization:virtualization-api", "subresources.kubevirt.io", "virtualmachineinstances/vnc", "get"},
		{"d8:virtualization:virtualization-api", "subresources.kubevirt.io", "virtualmachineinstances/portforward", "get"},
		{"d8:virtualization:virtualization-api", "subresources.kubevirt.io", "virtualmachineinstances/freeze", "update"},
		{"d8:virtualization:virtualization-api", "subresources.kubevirt.io", "virtualmachineinstances/evacuate/cancel", "update"},
		{"d8:virtualization:virtualization-api", "virtualization.deckhouse.io", "virtualmachineblockdeviceattachments", "create delete list"},
		{"d8:virtualization:virtualization-api", "coordination.k8s.io", "leases", ""},
		{"virtualization-api", "coordination.k8s.io", "leases", "create delete get list update"},
		{"d8:virtualization:virtualization-api", "kubevirt.io", "virtualmachineinstances", ""},
		{"d8:virtualization:virtualization-api", "", "secrets", ""},
		{"d8:virtualization:vm-router", "virtualization.deckhouse.io", "virtualmachines", "list watch"},
		{"d8:virtualization:vm-router", "kubevirt.io", "virtualmachineinstances", "list watch"},
		{"d8:virtualization:vm-router", "", "nodes", "list watch"},
		{"d8:virtualization:vm-router", "cilium.io", "ciliumnodes", "list watch"},
		{"d8:virtualization:vm-router", "apps", "daemonsets", ""},
		{"vm-router", "", "pods/status", "patch"},
		{"vm-router", "apps", "daemonsets", "list watch"},
		{"d8:virtualization:vm-router", "", "pods/status", ""},
	}
	for _, test := range tests {
		t.Run(test.role+" "+test.group+"/"+test.resource, func(t *testing.T) {
			rules := rulesOf(t, objects, test.role)
			if got := strings.Join(verbsOn(rules, test.group, test.resource), " "); got != test.verbs {
				t.Errorf("verbs = %q, want %q", got, test.verbs)
			}
		})
	}
}

func rulesOf(t *testing.T, objects []Object, name string) []rbacv1.PolicyRule {
	t.Helper()
	for _, role := range roles(t, objects) {
		if role.GetName() == name {
			return role.Rules
		}
	}
	t.Fatalf("no role %s was rendered", name)
	return nil
}

// verbsOn lists, sorted, what rules allow on a resource.
func verbsOn(rules []rbacv1.PolicyRule, group, resource string) []string {
	var verbs []string
	for _, rule := range rules {
		if slices.Contains(rule.APIGroups, group) && slices.Contains(rule.Resources, resource) {
			verbs = append(verbs, rule.Verbs...)
		}
	}
	slices.Sort(verbs)
	return slices.Compact(verbs)
}

// placesOfUsersRoles are the templates with roles for people, and how these are named.
var placesOfUsersRoles = map[string]string{
	"templates/user-authz-cluster-roles.yaml": "d8:user-authz:virtualization:",
	"templates/rbacv2/use.yaml":               "d8:use:",
	"templates/rbacv2/manage.yaml":            "d8:manage:",
}

// Accounts and roles have the names and places that Deckhouse's linter asks for.
func TestRolesAreNamedAndPlaced(t *testing.T) {
	for _, object := range render(t, Case{}) {
		switch object.GetKind() {
		case "ServiceAccount":
			folders := strings.Split(strings.TrimSuffix(strings.TrimPrefix(object.Template, "templates/"), "/rbac-for-us.yaml"), "/")
			if want := strings.Join(folders, "-"); object.GetName() != want {
				t.Errorf("%s: account %s, want %s", object.Template, object.GetName(), want)
			}
		case "ClusterRole", "ClusterRoleBinding":
			prefix := "d8:virtualization:"
			if own, found := placesOfUsersRoles[object.Template]; found {
				prefix = own
			} else if !strings.HasSuffix(object.Template, "/rbac-for-us.yaml") {
				t.Errorf("%s %s is in %s, want rbac-for-us.yaml", object.GetKind(), object.GetName(), object.Template)
			}
			if !strings.HasPrefix(object.GetName(), prefix) {
				t.Errorf("%s %s, want a name that begins with %s", object.GetKind(), object.GetName(), prefix)
			}
		}
	}
}

// scrapers are who asks for metrics: the platform's Prometheus, by its token or its certificate.
var scrapers = []rbacv1.Subject{
	{Kind: "ServiceAccount", Name: "prometheus", Namespace: "d8-monitoring"},
	{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "d8-monitoring:scraper"},
}

func TestBindingsHoldTogether(t *testing.T) {
	builtIn := []string{"system:auth-delegator", "extension-apiserver-authentication-reader"}
	objects := render(t, Case{})
	for _, object := range objects {
		if object.GetKind() != "RoleBinding" && object.GetKind() != "ClusterRoleBinding" {
			continue
		}
		var binding rbacv1.ClusterRoleBinding
		convert(t, object, &binding)
		if _, found := lookup(objects, binding.RoleRef.Kind, binding.RoleRef.Name); !found && !slices.Contains(builtIn, binding.RoleRef.Name) {
			t.Errorf("%s: there is no %s %s", binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name)
		}
		for _, subject := range binding.Subjects {
			if slices.Contains(scrapers, subject) {
				continue
			}
			if _, found := lookup(objects, "ServiceAccount", subject.Name); !found || subject.Namespace != "d8-virtualization" {
				t.Errorf("%s: there is no account %s/%s", binding.Name, subject.Namespace, subject.Name)
			}
		}
	}
}
