// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestInventory(t *testing.T) {
	fake := &fakeCluster{objects: map[string]string{machinesPath: twoMachines}}
	got := call(t, fake, nil, "ansible-inventory", "--list", "--ssh-user=admin")
	var read map[string]map[string]any
	if err := json.Unmarshal([]byte(got.out), &read); err != nil || got.err != nil {
		t.Fatalf("%v, %v: %s", err, got.err, got.out)
	}
	want := map[string]map[string]any{
		"all": {"children": []any{
			"label_app_kubernetes_io_name_shop", "label_plain", "namespace_team", "phase_Running", "phase_Stopped", "ungrouped",
		}},
		"label_app_kubernetes_io_name_shop": {"hosts": []any{"web.team"}},
		"label_plain":                       {"hosts": []any{"web.team"}},
		"namespace_team":                    {"hosts": []any{"db.team", "web.team"}},
		"phase_Running":                     {"hosts": []any{"web.team"}},
		"phase_Stopped":                     {"hosts": []any{"db.team"}},
	}
	variables := read["_meta"]["hostvars"].(map[string]any)
	delete(read, "_meta")
	if !reflect.DeepEqual(read, want) {
		t.Errorf("got %v, want %v", read, want)
	}
	web := variables["web.team"].(map[string]any)
	self, _ := os.Executable()
	for name, value := range map[string]string{
		"ansible_host": "web.team", "ansible_user": "admin", "ansible_connection": "ssh",
		"d8v_ip": "10.66.10.5", "d8v_node": "node-1", "d8v_phase": "Running", "d8v_namespace": "team", "d8v_name": "web",
	} {
		if web[name] != value {
			t.Errorf("%s: got %v, want %s", name, web[name], value)
		}
	}
	proxy := web["ansible_ssh_common_args"].(string)
	if !strings.HasPrefix(proxy, `-o ProxyCommand="`+self+" port-forward --stdio=true --kubeconfig=") || !strings.HasSuffix(proxy, ` web.team 22" -o HostKeyAlias=web.team`) {
		t.Errorf("got %s", proxy)
	}
}

func TestInventoryOfOneHost(t *testing.T) {
	fake := &fakeCluster{objects: map[string]string{
		"/apis/virtualization.deckhouse.io/v1alpha2/namespaces/prod/virtualmachines/web": `{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachine","metadata":{"name":"web","namespace":"prod"}}`,
	}}
	got := call(t, fake, nil, "ansible-inventory", "--host", "web.prod")
	var variables map[string]any
	if err := json.Unmarshal([]byte(got.out), &variables); err != nil || variables["ansible_host"] != "web.prod" || variables["ansible_user"] != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	fails(t, call(t, fake, nil, "ansible-inventory", "--host", "db.prod").err, "not found", "kubectl get virtualmachines")
	for _, args := range [][]string{{}, {"--list", "--host", "web"}} {
		fails(t, call(t, fake, nil, append([]string{"ansible-inventory"}, args...)...).err, "give either --list or --host")
	}
	fails(t, call(t, fake, nil, "ansible-inventory", "--list", "-l", "a in").err, "--selector")
}

// Empty clusters have an inventory, too.
func TestInventoryOfNothing(t *testing.T) {
	fake := &fakeCluster{objects: map[string]string{
		"/apis/virtualization.deckhouse.io/v1alpha2/virtualmachines": `{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachineList","items":[]}`,
	}}
	got := call(t, fake, nil, "ansible-inventory", "--list", "-A")
	if got.err != nil || strings.Join(strings.Fields(got.out), "") != `{"_meta":{"hostvars":{}},"all":{"children":["ungrouped"]}}` {
		t.Errorf("got %+v", got)
	}
}
