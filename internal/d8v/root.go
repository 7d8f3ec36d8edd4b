// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// NewCommand makes the root command. Streams are the terminal's.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	flags := genericclioptions.NewConfigFlags(true)
	root := &cobra.Command{
		Use:           "d8v",
		Short:         "Work with virtual machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Without arguments people want to see what there is.
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	flags.AddFlags(root.PersistentFlags())
	root.AddCommand(newConsoleCommand(flags, streams))
	return root
}

// target splits NAME or NAME.NAMESPACE; the flag or the kubeconfig's context
// gives the namespace otherwise.
func target(flags *genericclioptions.ConfigFlags, argument string) (namespace, name string, err error) {
	name = argument
	if dot := strings.LastIndexByte(argument, '.'); dot >= 0 {
		name, namespace = argument[:dot], argument[dot+1:]
	} else {
		namespace, _, err = flags.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return "", "", fmt.Errorf("finding the namespace: %w", err)
		}
	}
	if name == "" || namespace == "" {
		return "", "", fmt.Errorf("%q: give NAME or NAME.NAMESPACE", argument)
	}
	return namespace, name, nil
}
