// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// inventory is what Ansible reads from a script.
type inventory map[string]any

type group struct {
	Hosts    []string `json:"hosts,omitempty"`
	Children []string `json:"children,omitempty"`
}

func (c *cli) newInventoryCommand() *cobra.Command {
	var list, everywhere bool
	var host, selector, user string
	command := &cobra.Command{
		Use:   "ansible-inventory",
		Short: "Print the machines as an inventory of Ansible",
		Long: `Print the machines as an inventory of Ansible, which then reaches them by ssh through the
cluster. Hosts are NAME.NAMESPACE; there is a group for each namespace, for each phase and
for each label.`,
		Example: c.examples("ansible-inventory --list", "ansible-inventory --list --all-namespaces -l app=web --ssh-user admin",
			"ansible-inventory --host web.production"),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if list == (host != "") {
				return errors.New("give either --list or --host NAME.NAMESPACE")
			}
			parsed, err := labels.Parse(selector)
			if err != nil {
				return fmt.Errorf("--selector: %w", err)
			}
			objects, err := c.objects()
			if err != nil {
				return err
			}
			proxy := func(m *v1alpha2.VirtualMachine) string {
				return "-o ProxyCommand=\"" + c.proxyCommand(command, client.ObjectKeyFromObject(m), 22) + "\""
			}
			var result any
			if host != "" {
				key, err := c.target(host)
				if err != nil {
					return err
				}
				machine := &v1alpha2.VirtualMachine{}
				if err := objects.Get(command.Context(), key, machine); err != nil {
					return c.explain(err)
				}
				result = hostVariables(machine, user, proxy(machine))
			} else {
				namespace, _, err := c.flags.ToRawKubeConfigLoader().Namespace()
				if err != nil {
					return c.explain(err)
				}
				if everywhere {
					namespace = metav1.NamespaceAll
				}
				machines := &v1alpha2.VirtualMachineList{}
				if err := objects.List(command.Context(), machines, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: parsed}); err != nil {
					return c.explain(err)
				}
				result = inventoryOf(machines.Items, user, proxy)
			}
			encoder := json.NewEncoder(c.streams.Out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(result)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&list, "list", false, "print all groups and hosts")
	flags.StringVar(&host, "host", "", "print the variables of one host")
	flags.BoolVarP(&everywhere, "all-namespaces", "A", false, "machines of all namespaces")
	flags.StringVarP(&selector, "selector", "l", "", "machines with these labels")
	flags.StringVar(&user, "ssh-user", "", "user of the guests")
	return command
}

// inventoryOf has the variables of all hosts in _meta, so that Ansible asks but once.
func inventoryOf(machines []v1alpha2.VirtualMachine, user string, proxy func(*v1alpha2.VirtualMachine) string) inventory {
	variables := map[string]any{}
	members := map[string][]string{}
	for i := range machines {
		machine := &machines[i]
		host := hostName(client.ObjectKeyFromObject(machine))
		variables[host] = hostVariables(machine, user, proxy(machine))
		for _, name := range groupsOf(machine) {
			members[name] = append(members[name], host)
		}
	}
	all := group{Children: []string{"ungrouped"}}
	out := inventory{"_meta": map[string]any{"hostvars": variables}}
	for name, hosts := range members {
		slices.Sort(hosts)
		out[name] = group{Hosts: hosts}
		all.Children = append(all.Children, name)
	}
	slices.Sort(all.Children)
	out["all"] = all
	return out
}

// unfit are characters that names of groups must not have.
var unfit = regexp.MustCompile(`[^A-Za-z0-9_]`)

func groupsOf(machine *v1alpha2.VirtualMachine) []string {
	groups := []string{"namespace_" + machine.Namespace}
	if machine.Status.Phase != "" {
		groups = append(groups, "phase_"+string(machine.Status.Phase))
	}
	for key, value := range machine.Labels {
		name := "label_" + key
		if value != "" {
			name += "_" + value
		}
		groups = append(groups, name)
	}
	for i, name := range groups {
		groups[i] = unfit.ReplaceAllString(name, "_")
	}
	return groups
}

func hostVariables(machine *v1alpha2.VirtualMachine, user, proxy string) map[string]any {
	key := client.ObjectKeyFromObject(machine)
	variables := map[string]any{
		"ansible_connection": "ssh", "ansible_host": hostName(key), "ansible_ssh_common_args": proxy + " -o HostKeyAlias=" + hostName(key),
		"d8v_name": machine.Name, "d8v_namespace": machine.Namespace, "d8v_phase": string(machine.Status.Phase),
		"d8v_node": machine.Status.NodeName, "d8v_ip": machine.Status.IPAddress,
	}
	if user != "" {
		variables["ansible_user"] = user
	}
	return variables
}
