// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package bashible

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"
)

const (
	// interval is how often the agent asks; Deckhouse's asks once a minute. A question is cheap, and the agent need not
	// care whether Deckhouse's side has installed its resources yet.
	interval = 5 * time.Second
	// stepTimeout ends a script that hangs.
	stepTimeout = time.Minute
	// groupLabel says which group a node belongs to.
	groupLabel = "node.deckhouse.io/group"
)

var (
	configurations = schema.GroupVersionResource{Group: "deckhouse.io", Version: "v1alpha1", Resource: "nodegroupconfigurations"}
	nodes          = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

// errNoGroup says that whoever made the cluster has not labelled the node yet.
var errNoGroup = errors.New("the node has no label " + groupLabel)

// Agent runs the scripts of one node.
type Agent struct {
	// Node is the name of the node that this process runs on.
	Node   string
	Client dynamic.Interface
	Clock  clock.WithTicker
	Log    *slog.Logger
	// Execute runs a script; nil for Bash.
	Execute func(ctx context.Context, script string) error

	applied string
	problem string
}

// Run keeps the node configured until the context ends.
func (a *Agent) Run(ctx context.Context) {
	if a.Execute == nil {
		a.Execute = Bash
	}
	ticker := a.Clock.NewTicker(interval)
	defer ticker.Stop()
	for {
		a.tell(a.configure(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// configure runs all scripts when one of them has changed, or failed the last time.
func (a *Agent) configure(ctx context.Context) error {
	node, err := a.Client.Resource(nodes).Get(ctx, a.Node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the node: %w", err)
	}
	group := node.GetLabels()[groupLabel]
	if group == "" {
		return errNoGroup
	}
	list, err := a.Client.Resource(configurations).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return errors.New("the API server does not serve NodeGroupConfigurations yet")
	} else if err != nil {
		return fmt.Errorf("list NodeGroupConfigurations: %w", err)
	}
	steps, err := stepsFor(group, list.Items)
	if err != nil {
		return err
	}
	sum := checksum(steps)
	if sum == a.applied {
		return nil
	}
	for _, step := range steps {
		if err := a.Execute(ctx, step.Content); err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
		a.Log.Info("step done", "step", step.Name)
	}
	a.applied = sum
	a.Log.Info("the node is configured", "steps", len(steps), "checksum", sum)
	return nil
}

// tell logs a problem once, not with every try.
func (a *Agent) tell(err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != a.problem {
		a.Log.Warn("the node is not configured; trying on", "error", problem)
	}
	a.problem = problem
}

// Bash runs a script the way Deckhouse does: it ends at the first command that fails.
func Bash(ctx context.Context, script string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	// A script holds credentials, and arguments are for everybody to see. It comes as the input, and then has none.
	command := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-Eeo", "pipefail", "-c", `eval "$(cat)" </dev/null`)
	command.Stdin = bytes.NewBufferString(script)
	// A child that a killed script leaves behind would keep the output open.
	command.WaitDelay = time.Second
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}
