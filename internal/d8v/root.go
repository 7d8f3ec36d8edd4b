// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// cli is what all commands share: the cluster and the terminal.
type cli struct {
	flags   *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
	// name is how people call the client, for examples and remedies.
	name string
	// retry paces attempts to connect again, and reconnectFor ends them.
	retry        wait.Backoff
	reconnectFor time.Duration
}

// NewCommand makes the root command. Streams are the terminal's.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newCLI(streams, os.Args[0]).command()
}

func newCLI(streams genericiooptions.IOStreams, program string) *cli {
	return &cli{
		flags: genericclioptions.NewConfigFlags(true), streams: streams, name: displayName(program),
		retry:        wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.1, Steps: 1000, Cap: 5 * time.Second},
		reconnectFor: 2 * time.Minute,
	}
}

// displayName is "kubectl d8v" for a program that kubectl found by its name.
func displayName(program string) string {
	base := strings.TrimSuffix(filepath.Base(program), ".exe")
	if plugin, found := strings.CutPrefix(base, "kubectl-"); found {
		return "kubectl " + plugin
	}
	return "d8v"
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "d8v",
		Short:         "Work with virtual machines",
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: c.name},
		// Without arguments people want to see what there is.
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	root.SetIn(c.streams.In)
	root.SetOut(c.streams.Out)
	root.SetErr(c.streams.ErrOut)
	c.flags.AddFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", c.completeNamespaces)
	root.AddCommand(
		c.newConsoleCommand(), c.newVNCCommand(), c.newPortForwardCommand(), c.newSSHCommand(), c.newSCPCommand(),
		c.newCollectCommand(), c.newInventoryCommand(),
	)
	for _, verb := range verbs {
		root.AddCommand(c.newOperationCommand(verb))
	}
	return root
}

// kinds are those that the client reads. They are known here, so that no command
// begins with the discovery of all APIs of the cluster.
var kinds = map[schema.GroupVersionKind]meta.RESTScope{
	v1alpha2.SchemeGroupVersion.WithKind("VirtualMachine"):                         meta.RESTScopeNamespace,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualDisk"):                            meta.RESTScopeNamespace,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualImage"):                           meta.RESTScopeNamespace,
	v1alpha2.SchemeGroupVersion.WithKind("ClusterVirtualImage"):                    meta.RESTScopeRoot,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualMachineClass"):                    meta.RESTScopeRoot,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualMachineOperation"):                meta.RESTScopeNamespace,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualMachineIPAddress"):                meta.RESTScopeNamespace,
	v1alpha2.SchemeGroupVersion.WithKind("VirtualMachineBlockDeviceAttachment"):    meta.RESTScopeNamespace,
	{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachine"}:                  meta.RESTScopeNamespace,
	{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstance"}:          meta.RESTScopeNamespace,
	{Group: "kubevirt.io", Version: "v1", Kind: "VirtualMachineInstanceMigration"}: meta.RESTScopeNamespace,
	{Version: "v1", Kind: "Pod"}:                                                   meta.RESTScopeNamespace,
	{Version: "v1", Kind: "PersistentVolumeClaim"}:                                 meta.RESTScopeNamespace,
	{Version: "v1", Kind: "Event"}:                                                 meta.RESTScopeNamespace,
}

// objects makes a client for the API's own kinds.
func (c *cli) objects() (client.WithWatch, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, c.explain(err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		return nil, err
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range kinds {
		mapper.Add(kind, scope)
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper})
}

// cluster makes a client for what is Kubernetes' own.
func (c *cli) cluster() (kubernetes.Interface, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, c.explain(err)
	}
	return kubernetes.NewForConfig(config)
}

// say tells people something that is not the result of the command.
func (c *cli) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.streams.ErrOut, format+"\n", args...)
}
