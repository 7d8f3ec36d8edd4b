// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kube waits for things in the cluster.
package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const interval = 300 * time.Millisecond

// Client talks to the cluster.
type Client struct {
	api     kubernetes.Interface
	dynamic dynamic.Interface
}

// New returns a client with the access of a kubeconfig.
func New(kubeconfig string) (*Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	dynamicAPI, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Client{api: api, dynamic: dynamicAPI}, nil
}

// wait repeats a check until it passes; if it never does, the error says what
// was the matter the last time.
func wait(ctx context.Context, what string, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, err)
		case <-time.After(interval):
		}
	}
}

// WaitForAPI waits until the API server is ready to serve.
func (c *Client) WaitForAPI(ctx context.Context) error {
	return wait(ctx, "the API server", func() error {
		_, err := c.api.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// WaitForNode waits until a node is ready. What the API server says of it may be
// from before a restart, so the kubelet itself is asked first.
func (c *Client) WaitForNode(ctx context.Context, name string) error {
	return wait(ctx, name, func() error {
		_, err := c.api.CoreV1().RESTClient().Get().Resource("nodes").Name(name).SubResource("proxy").Suffix("healthz").DoRaw(ctx)
		if err != nil {
			return err
		}
		node, err := c.api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return nodeReady(node)
	})
}

func nodeReady(node *corev1.Node) error {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return nil
		}
		return fmt.Errorf("node is not ready: %s", c.Message)
	}
	return fmt.Errorf("node has not reported yet")
}

// LabelNode gives labels to a node.
func (c *Client) LabelNode(ctx context.Context, name string, labels map[string]string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	_, err = c.api.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "sandbox"})
	return err
}

// WaitForDeployment waits until all pods of a Deployment are available.
func (c *Client) WaitForDeployment(ctx context.Context, namespace, name string) error {
	return wait(ctx, "deployment "+namespace+"/"+name, func() error {
		d, err := c.api.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return deploymentReady(d)
	})
}

func deploymentReady(d *appsv1.Deployment) error {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < want || s.AvailableReplicas < want || s.Replicas > want {
		return fmt.Errorf("%d of %d pods are available", s.AvailableReplicas, want)
	}
	return nil
}

// Nodes lists the nodes with what is wrong with each; nil is a ready one.
func (c *Client) Nodes(ctx context.Context) (map[string]error, error) {
	list, err := c.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	nodes := map[string]error{}
	for i := range list.Items {
		nodes[list.Items[i].Name] = nodeReady(&list.Items[i])
	}
	return nodes, nil
}
