// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/cluster"
	"github.com/deckhouse/virtualization/sandbox/internal/host"
	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/pki"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

const (
	nodeCount      = 2
	clusterTimeout = 3 * time.Minute
)

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:16]
}

// startCluster starts the supervisor and both nodes and waits for the nodes.
func startCluster(ctx context.Context, s *session) error {
	nodes := topology.Nodes(nodeCount)
	plan, err := s.plan(nodes)
	if err != nil {
		return err
	}
	if err := s.startSupervisor(ctx, nodes); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	client, err := kube.New(s.state.Kubeconfig())
	if err != nil {
		return err
	}
	for _, n := range plan.Nodes {
		s.report.Say("starting %s", n.Node.Name)
		if err := s.startNode(ctx, client, n); err != nil {
			return fmt.Errorf("start %s: %w", n.Node.Name, err)
		}
	}
	return s.waitForNodes(ctx, client, nodes)
}

// startSupervisor starts the supervisor with what does not depend on the nodes.
func (s *session) startSupervisor(ctx context.Context, nodes []topology.Node) error {
	address, err := state.APIAddress()
	if err != nil {
		return err
	}
	if err := pki.Ensure(s.state.PKI(), pki.Access{Kubeconfig: s.state.Kubeconfig(), Address: address}, nodes); err != nil {
		return err
	}
	if _, running := supervisor.Running(s.state); !running {
		// Volumes of a cluster that ended without "down" would stay attached
		// beside those that the new one attaches.
		if err := host.DetachLoopDevices(string(s.state)); err != nil {
			return err
		}
	}
	if s.client, err = supervisor.Start(ctx, s.state, s.report.Say); err != nil {
		return err
	}
	go func() {
		<-s.client.Ended()
		s.cancel(errSupervisorEnded)
	}()
	if err := s.startHostBox(); err != nil {
		return err
	}
	if err := s.client.EnsureForward(supervisor.ForwardRequest{Listen: address, Target: topology.APIServer()}); err != nil {
		return err
	}
	return s.openIngress()
}

func (s *session) plan(nodes []topology.Node) (cluster.Plan, error) {
	priority, err := host.MayRaisePriority()
	if err != nil {
		return cluster.Plan{}, err
	}
	return cluster.New(cluster.Input{
		State: s.state, Nodes: nodes, Artifacts: s.artifact,
		Machine: cluster.Machine{MayRaisePriority: priority},
	})
}

// startHostBox starts the box for processes on the machine's side.
func (s *session) startHostBox() error {
	return s.client.EnsureBox(box.Spec{
		Name: hostBox, Cgroup: filepath.Join(s.state.CgroupName(), hostBox), Logs: s.state.Logs(hostBox),
	})
}

// runOnHost keeps a process running on the machine's side, with the machine's
// file system and network. Its whole environment is what is given.
func (s *session) runOnHost(spec process.Spec) error {
	return s.client.EnsureProcess(hostBox, spec)
}

// startNode writes a node's configuration, starts its box and then its processes.
func (s *session) startNode(ctx context.Context, client *kube.Client, n cluster.NodePlan) error {
	for _, f := range n.Files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return err
		}
		if err := pki.WriteFile(f.Path, []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	if err := s.client.EnsureBox(n.Box); err != nil {
		return err
	}
	if err := s.startProcesses(n.Node.Name, n.API); err != nil {
		return err
	}
	if len(n.API) > 0 {
		s.report.Note("waiting for the API server, see \"sandbox logs kube-apiserver\"")
		if err := client.WaitForAPI(ctx); err != nil {
			return err
		}
		s.report.Say("the API server is ready")
	}
	return s.startProcesses(n.Node.Name, n.Processes)
}

func (s *session) startProcesses(node string, list []process.Spec) error {
	for _, p := range list {
		if err := s.client.EnsureProcess(node, p); err != nil {
			return err
		}
	}
	return nil
}

// waitForNodes waits until every node is ready, and gives them the labels that
// they may not give themselves.
func (s *session) waitForNodes(ctx context.Context, client *kube.Client, nodes []topology.Node) error {
	for _, n := range nodes {
		s.report.Note("waiting for %s, see \"sandbox logs %s/kubelet\"", n.Name, n.Name)
		if err := client.WaitForNode(ctx, n.Name); err != nil {
			return err
		}
		if err := client.LabelNode(ctx, n.Name, nodeLabels(n)); err != nil {
			return err
		}
		s.report.Say("%s is ready", n.Name)
	}
	return nil
}

// nodeLabels say what Deckhouse says of its nodes.
func nodeLabels(n topology.Node) map[string]string {
	if n.ControlPlane {
		return map[string]string{"node-role.kubernetes.io/control-plane": "", "node.deckhouse.io/group": "master"}
	}
	return map[string]string{"node-role.kubernetes.io/worker": "", "node.deckhouse.io/group": "worker"}
}
