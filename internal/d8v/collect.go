// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/d8v/debuginfo"
)

func (c *cli) newCollectCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "collect-debug-info MACHINE",
		Short: "Collect what is needed to find out what is wrong with a machine",
		Long: `Collect a machine, its disks, images, operations, address and class, the engine's objects
and Pods behind it, their events and logs. What you have no rights on is left out, and
listed in not-collected.txt. Secrets are not read; user data of cloud-init, addresses for
uploads and passwords in addresses are replaced by ` + debuginfo.Redacted + `. Look through the result
before you hand it on: what a guest writes on its own is not known to the client.

MACHINE is ` + targetForms + `.`,
		Example: c.examples("collect-debug-info web", "collect-debug-info web.production -o web.tar.gz", "collect-debug-info web -o ./web"),
	}
	c.ofMachine(command, func(ctx context.Context, key client.ObjectKey) error {
		if output == "" {
			output = fmt.Sprintf("%s-%s-%s.tar.gz", key.Namespace, key.Name, time.Now().UTC().Format("20060102T150405"))
		}
		return c.collect(ctx, key, output)
	})
	command.Flags().StringVarP(&output, "output", "o", "", "file that ends with .tar.gz, - for the standard output, or a folder; a name made of the machine's otherwise")
	return command
}

func (c *cli) collect(ctx context.Context, key client.ObjectKey, output string) error {
	objects, err := c.objects()
	if err != nil {
		return err
	}
	cluster, err := c.cluster()
	if err != nil {
		return err
	}
	collected, err := debuginfo.Collect(ctx, objects, cluster, key)
	if err != nil {
		return fmt.Errorf("collecting what is known of %s: %w", key, c.explain(err))
	}
	files := collected.Files()
	if err := debuginfo.Write(output, files, c.streams.Out); err != nil {
		return err
	}
	c.say("Wrote %d files to %s; %d things could not be read.", len(files), output, len(collected.Missing()))
	return nil
}
