// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// completionTimeout keeps a shell from hanging when the cluster does not answer.
const completionTimeout = 3 * time.Second

// completeMachine offers the machines for the first argument; completeMachines for all.
func (c *cli) completeMachine(command *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && command.Name() != "scp" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeMachines(command, args, begun)
}

// completeMachines offers the machines of the namespace, and those of all namespaces as
// NAME.NAMESPACE after a dot. What stands before a user's "@" is kept. Whoever may not
// list machines is offered nothing.
func (c *cli) completeMachines(command *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	suffix := ""
	if command.Name() == "scp" {
		// Anything may be a file here, too.
		directive, suffix = cobra.ShellCompDirectiveDefault|cobra.ShellCompDirectiveNoSpace, ":"
	}
	user, begun, named := strings.Cut(begun, "@")
	if !named {
		user, begun = "", user
	} else {
		user += "@"
	}
	ctx, cancel := context.WithTimeout(commandContext(command), completionTimeout)
	defer cancel()
	objects, err := c.objects()
	if err != nil {
		return nil, directive
	}
	namespace, _, err := c.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, directive
	}
	everywhere := strings.Contains(begun, ".")
	if everywhere {
		namespace = metav1.NamespaceAll
	}
	machines := &v1alpha2.VirtualMachineList{}
	if err := objects.List(ctx, machines, client.InNamespace(namespace)); err != nil {
		return nil, directive
	}
	var names []string
	for _, machine := range machines.Items {
		name := machine.Name
		if everywhere {
			name += "." + machine.Namespace
		}
		if strings.HasPrefix(name, begun) {
			names = append(names, user+name+suffix+"\t"+string(machine.Status.Phase))
		}
	}
	return without(names, args), directive
}

// without leaves out what was given already.
func without(names, given []string) []string {
	kept := names[:0]
	for _, name := range names {
		word, _, _ := strings.Cut(name, "\t")
		again := false
		for _, argument := range given {
			again = again || argument == word
		}
		if !again {
			kept = append(kept, name)
		}
	}
	return kept
}

func (c *cli) completeNamespaces(command *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(commandContext(command), completionTimeout)
	defer cancel()
	cluster, err := c.cluster()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	namespaces, err := cluster.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, namespace := range namespaces.Items {
		if strings.HasPrefix(namespace.Name, begun) {
			names = append(names, namespace.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// commandContext is there for completions, which cobra may run without a context.
func commandContext(command *cobra.Command) context.Context {
	if ctx := command.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
