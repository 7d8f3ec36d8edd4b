// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// levels are cumulative: who has one has all before it.
var levels = []struct{ level, role string }{
	{"User", "d8:user-authz:virtualization:user"},
	{"PrivilegedUser", "d8:user-authz:virtualization:privileged-user"},
	{"Editor", "d8:user-authz:virtualization:editor"},
	{"Admin", "d8:user-authz:virtualization:admin"},
	{"ClusterEditor", "d8:user-authz:virtualization:cluster-editor"},
	{"ClusterAdmin", "d8:user-authz:virtualization:cluster-admin"},
}

// rights is the table of the documentation: R is reading, C creating, W every kind of writing.
// The columns are the levels, in the order above.
var rights = []struct {
	resource string
	levels   [6]string
}{
	{"virtualmachines", [6]string{"R", "R", "RW", "RW", "RW", "RW"}},
	{"virtualdisks", [6]string{"R", "R", "RW", "RW", "RW", "RW"}},
	{"virtualimages", [6]string{"R", "R", "R", "RW", "RW", "RW"}},
	{"clustervirtualimages", [6]string{"R", "R", "R", "R", "RW", "RW"}},
	{"virtualmachineblockdeviceattachments", [6]string{"R", "R", "RW", "RW", "RW", "RW"}},
	{"virtualmachineoperations", [6]string{"R", "RC", "RW", "RW", "RW", "RW"}},
	{"virtualmachineipaddresses", [6]string{"R", "R", "RW", "RW", "RW", "RW"}},
	{"virtualmachineipaddressleases", [6]string{"", "", "", "R", "R", "RW"}},
	{"virtualmachineclasses", [6]string{"R", "R", "R", "R", "RW", "RW"}},
}

// streams are what people open with a client; each is open from PrivilegedUser upward.
var streams = []string{"virtualmachines/console", "virtualmachines/vnc", "virtualmachines/portforward"}

var verbsOf = map[string][]string{
	"":   nil,
	"R":  {"get", "list", "watch"},
	"RC": {"create", "get", "list", "watch"},
	"RW": {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
}

const group, streamGroup = "virtualization.deckhouse.io", "subresources.virtualization.deckhouse.io"

func TestAccessLevels(t *testing.T) {
	objects := render(t, Case{})
	var held []rbacv1.PolicyRule
	for column, current := range levels {
		if got := find(t, objects, "ClusterRole", current.role).GetAnnotations()["user-authz.deckhouse.io/access-level"]; got != current.level {
			t.Errorf("%s: access level %q, want %q", current.role, got, current.level)
		}
		held = append(held, rulesOf(t, objects, current.role)...)

		for _, row := range rights {
			if got, want := verbsOn(held, group, row.resource), verbsOf[row.levels[column]]; !slices.Equal(got, want) {
				t.Errorf("%s may %v %s, want %v", current.level, got, row.resource, want)
			}
		}
		var open []string
		if column > 0 {
			open = []string{"create", "get", "update"}
		}
		for _, stream := range streams {
			if got := verbsOn(held, streamGroup, stream); !slices.Equal(got, open) {
				t.Errorf("%s may %v %s, want %v", current.level, got, stream, open)
			}
		}
	}
}

// Nothing beyond the table: no other resource, and above all no plugging of volumes past the attachments' rights.
func TestAccessLevelsGrantNothingElse(t *testing.T) {
	known := append([]string{"virtualmachines"}, streams...)
	for _, row := range rights {
		known = append(known, row.resource)
	}
	for _, role := range roles(t, render(t, Case{})) {
		if !strings.HasPrefix(role.GetName(), "d8:user-authz:") {
			continue
		}
		if !slices.ContainsFunc(levels, func(l struct{ level, role string }) bool { return l.role == role.GetName() }) {
			t.Errorf("unknown role %s", role.GetName())
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				if !slices.Contains(known, resource) {
					t.Errorf("%s has rights on %s", role.GetName(), resource)
				}
			}
			for _, name := range rule.APIGroups {
				if name != group && name != streamGroup {
					t.Errorf("%s has rights in the group %s", role.GetName(), name)
				}
			}
		}
	}
}
