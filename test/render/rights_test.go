// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

// notSeen are rights that no end-to-end run shows, each with the reason why it stays.
var notSeen = map[string]string{
	"* coordination.k8s.io/leases": "Leases are not audited: leaders' elections would drown the rest",
	"* events":                     "Events are not audited",
	"* events.k8s.io/events":       "Events are not audited",
	"* cilium.io/ciliumnodes":      "the sandbox's network is another one",

	"virtualization-api update subresources.kubevirt.io/virtualmachineinstances:evacuate/cancel":        "only KubeVirt asks for this name, which its own question about the right shows",
	"virtualization-controller update subresources.kubevirt.io/virtualmachineinstances:evacuate/cancel": "only KubeVirt asks for this name, which its own question about the right shows",
}

// finalizers ends the names of what kube-apiserver asks for when an object is to be owned with
// blockOwnerDeletion. That is a question within admission, which is not audited.
const finalizers = ":finalizers"

// right is one verb on one resource, for one account.
type right struct {
	account, verb, resource string
	// module tells that it holds in the module's namespace only.
	module bool
}

func (r right) String() string { return r.account + " " + r.verb + " " + r.resource }

// recorded are the lines of the list: who, where, verb and resource.
func recorded(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile("testdata/used-rights.txt")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			used[line] = true
		}
	}
	return used
}

// granted are the rights of the accounts of the module's own programs.
func granted(t *testing.T, objects []Object) []right {
	t.Helper()
	var out []right
	for _, object := range objects {
		if object.GetKind() != "RoleBinding" && object.GetKind() != "ClusterRoleBinding" || strings.Contains(object.Template, "/operator/") {
			continue
		}
		var binding rbacv1.ClusterRoleBinding
		convert(t, object, &binding)
		if _, ours := lookup(objects, binding.RoleRef.Kind, binding.RoleRef.Name); !ours {
			continue
		}
		for _, rule := range rulesOf(t, objects, binding.RoleRef.Name) {
			for _, subject := range binding.Subjects {
				out = append(out, rightsOf(rule, subject.Name, object.GetKind() == "RoleBinding")...)
			}
		}
	}
	return out
}

func rightsOf(rule rbacv1.PolicyRule, account string, module bool) []right {
	var out []right
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			name := strings.Replace(resource, "/", ":", 1)
			if group != "" {
				name = group + "/" + name
			}
			for _, verb := range rule.Verbs {
				out = append(out, right{account: account, verb: verb, resource: name, module: module})
			}
		}
	}
	return out
}

// implied tells whether a right comes with others that were made use of: an apply, which
// is a patch, takes the right to create what is not there yet; and who lists objects
// learns no more by getting one.
func implied(r right, used func(right) bool) bool {
	with := map[string]string{"create": "patch", "get": "list"}[r.verb]
	return with != "" && used(right{account: r.account, verb: with, resource: r.resource, module: r.module})
}

func excused(r right) bool {
	return notSeen[r.String()] != "" || notSeen["* "+r.resource] != "" || strings.HasSuffix(r.resource, finalizers)
}

// Every right of the module's programs was made use of in an end-to-end run, or has a
// reason.
func TestNoRightIsSpare(t *testing.T) {
	record := recorded(t)
	used := func(r right) bool {
		return record[r.account+" module "+r.verb+" "+r.resource] || !r.module && record[r.account+" anywhere "+r.verb+" "+r.resource]
	}
	for _, r := range granted(t, render(t, Case{})) {
		if !used(r) && !implied(r, used) && !excused(r) {
			t.Errorf("%s: no end-to-end run has used it: take it out of the role, or write the reason into notSeen", r)
		}
	}
}

// A reason for what is not there any more, or was seen by now, misleads.
func TestReasonsAreOfRights(t *testing.T) {
	used := recorded(t)
	all := granted(t, render(t, Case{}))
	for name := range notSeen {
		account, rest, _ := strings.Cut(name, " ")
		if account == "*" {
			if !slices.ContainsFunc(all, func(r right) bool { return r.resource == rest }) {
				t.Errorf("%s: nobody has such a right", name)
			}
			continue
		}
		if !slices.ContainsFunc(all, func(r right) bool { return r.String() == name }) {
			t.Errorf("%s: there is no such right", name)
		}
		if used[account+" anywhere "+rest] || used[account+" module "+rest] {
			t.Errorf("%s: an end-to-end run has used it; the reason is not needed", name)
		}
	}
}

// What was seen once is allowed still; a list that names what is not was not made anew
// after a right was taken out.
func TestTheRecordIsOfThisChart(t *testing.T) {
	all := granted(t, render(t, Case{}))
	for line := range recorded(t) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			t.Errorf("%q is no line of the record", line)
			continue
		}
		if !slices.ContainsFunc(all, func(r right) bool { return r.String() == fields[0]+" "+fields[2]+" "+fields[3] }) {
			t.Errorf("%s: the chart allows it no more: make the list anew by 'make rights'", line)
		}
	}
}
