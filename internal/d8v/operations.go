// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// verb is a command that orders something from machines.
type verb struct {
	name  string
	kind  v1alpha2.OperationType
	short string
	// force says what --force does; empty where there is no such flag.
	force string
	// node is set where the node to move to can be chosen.
	node bool
}

var verbs = []verb{
	{name: "start", kind: v1alpha2.OperationStart, short: "Power machines on"},
	{name: "stop", kind: v1alpha2.OperationStop, short: "Shut the guests of machines down", force: "give the guest one second instead of its time to shut down"},
	{
		name: "restart", kind: v1alpha2.OperationRestart, short: "Shut guests down and start them with everything that was changed",
		force: "give the guest one second instead of its time to shut down",
	},
	{
		name: "migrate", kind: v1alpha2.OperationMigrate, short: "Move running guests to another node",
		force: "let the migration slow the guest down", node: true,
	},
	{name: "evict", kind: v1alpha2.OperationEvict, short: "Move running guests off their nodes", force: "let the migration slow the guest down"},
}

type orderOptions struct {
	force, wait, createOnly, all bool
	selector, node               string
	timeout                      time.Duration
}

func (c *cli) newOperationCommand(v verb) *cobra.Command {
	var options orderOptions
	command := &cobra.Command{
		Use:   v.name + " MACHINE...",
		Short: v.short,
		Long: v.short + `, by a VirtualMachineOperation for each. The command returns when the operation has
begun, with --wait when it has ended.

MACHINE is ` + targetForms + `.`,
		Example:           c.examples(v.name+" web", v.name+" web.production db.production --wait", v.name+" -n team -l app=web"),
		ValidArgsFunction: c.completeMachines,
		RunE: func(command *cobra.Command, args []string) error {
			return c.orderAll(command.Context(), v, options, args)
		},
	}
	flags := command.Flags()
	flags.BoolVarP(&options.wait, "wait", "w", false, "return when the operation has ended")
	flags.BoolVar(&options.createOnly, "create-only", false, "return when the operation was accepted")
	flags.DurationVar(&options.timeout, "timeout", 5*time.Minute, "how long to wait at most; the operation goes on")
	flags.BoolVar(&options.all, "all", false, "all machines of the namespace")
	flags.StringVarP(&options.selector, "selector", "l", "", "machines of the namespace with these labels")
	if v.force != "" {
		flags.BoolVar(&options.force, "force", false, v.force)
	}
	if v.node {
		flags.StringVar(&options.node, "target-node", "", "name of the node to move to")
	}
	return command
}

// orderAll creates all operations before it waits for the first, so that they run at
// the same time.
func (c *cli) orderAll(ctx context.Context, v verb, options orderOptions, args []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, options.timeout, fmt.Errorf("--timeout of %s is over; the operation goes on", options.timeout))
	defer cancel()
	objects, err := c.objects()
	if err != nil {
		return err
	}
	machines, err := c.choose(ctx, objects, options, args)
	if err != nil {
		return err
	}
	var problems []error
	var made []*v1alpha2.VirtualMachineOperation
	for _, key := range machines {
		operation := v.order(key, options)
		if err := objects.Create(ctx, operation); err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", v.name, key, c.explain(err)))
			continue
		}
		c.say("%s: operation %s was created", key, operation.Name)
		made = append(made, operation)
	}
	if !options.createOnly {
		for _, operation := range made {
			key := client.ObjectKey{Namespace: operation.Namespace, Name: operation.Spec.VirtualMachineName}
			if err := c.follow(ctx, objects, operation, options.wait); err != nil {
				problems = append(problems, fmt.Errorf("%s %s: %w", v.name, key, c.explain(err)))
			}
		}
	}
	return errors.Join(problems...)
}

// choose lists the machines that are named or selected.
func (c *cli) choose(ctx context.Context, objects client.Client, options orderOptions, args []string) ([]client.ObjectKey, error) {
	var keys []client.ObjectKey
	for _, argument := range args {
		key, err := c.target(argument)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	selecting := options.all || options.selector != ""
	if selecting == (len(args) > 0) {
		return nil, errors.New("give machines, or --all, or --selector")
	}
	if !selecting {
		return keys, nil
	}
	selector, err := labels.Parse(options.selector)
	if err != nil {
		return nil, fmt.Errorf("--selector: %w", err)
	}
	namespace, _, err := c.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, c.explain(err)
	}
	machines := &v1alpha2.VirtualMachineList{}
	if err := objects.List(ctx, machines, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, c.explain(err)
	}
	for i := range machines.Items {
		keys = append(keys, client.ObjectKeyFromObject(&machines.Items[i]))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no machine in %s is meant: see `kubectl -n %s get vm --show-labels`", namespace, namespace)
	}
	return keys, nil
}

// order is the operation as it is sent.
func (v verb) order(key client.ObjectKey, options orderOptions) *v1alpha2.VirtualMachineOperation {
	operation := &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, GenerateName: key.Name + "-" + strings.ToLower(v.name) + "-"},
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: v.kind, VirtualMachineName: key.Name},
	}
	if options.force {
		operation.Spec.Force = ptr.To(true)
	}
	if options.node != "" {
		operation.Spec.Migrate = &v1alpha2.OperationMigrateSpec{NodeSelector: map[string]string{"kubernetes.io/hostname": options.node}}
	}
	return operation
}
