// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// targetForms is what a machine may be called on the command line.
const targetForms = "NAME, NAME.NAMESPACE or vm/NAME[/NAMESPACE]"

// ofMachine makes a command one about the machine that its only argument names.
func (c *cli) ofMachine(command *cobra.Command, run func(ctx context.Context, key client.ObjectKey) error) {
	command.Args, command.ValidArgsFunction = cobra.ExactArgs(1), c.completeMachine
	command.RunE = func(command *cobra.Command, args []string) error {
		key, err := c.target(args[0])
		if err != nil {
			return err
		}
		return run(command.Context(), key)
	}
}

// target finds out which machine is meant; the flag or the kubeconfig's context
// gives the namespace where the argument has none.
func (c *cli) target(argument string) (client.ObjectKey, error) {
	name, namespace, named := splitTarget(argument)
	if !named {
		var err error
		if namespace, _, err = c.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
			return client.ObjectKey{}, fmt.Errorf("finding the namespace: %w", c.explain(err))
		}
	}
	if name == "" || namespace == "" || strings.ContainsAny(name+namespace, "/ ") {
		return client.ObjectKey{}, fmt.Errorf("%q names no machine: give %s", argument, targetForms)
	}
	return client.ObjectKey{Namespace: namespace, Name: name}, nil
}

// kindPrefixes are what may stand before a name, as in kubectl.
var kindPrefixes = []string{"vm/", "virtualmachine/", "virtualmachines/"}

// splitTarget takes an argument to pieces; named tells whether it has a namespace.
// What comes after the last dot is the namespace, so that a name with a dot needs one.
func splitTarget(argument string) (name, namespace string, named bool) {
	for _, prefix := range kindPrefixes {
		rest, found := strings.CutPrefix(argument, prefix)
		if !found {
			continue
		}
		if name, namespace, named = strings.Cut(rest, "/"); named {
			return name, namespace, named
		}
		argument = rest
		break
	}
	if dot := strings.LastIndexByte(argument, '.'); dot >= 0 {
		return argument[:dot], argument[dot+1:], true
	}
	return argument, "", false
}
