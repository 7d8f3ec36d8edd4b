// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// AnnotationSelectedNode is the scheduler's: where the first consumer of a claim runs.
const AnnotationSelectedNode = "volume.kubernetes.io/selected-node"

// stateTaints are the system's own: they tell of a node that is not fit at the moment.
const stateTaints = "node.kubernetes.io/"

// Tolerations let a Pod of ours run on the node that was chosen for the claim's first
// consumer. Its volume may be reachable from there only, and the node be set aside for
// machines by taints. Nothing is tolerated for claims of storage that needs no node.
func Tolerations(ctx context.Context, reader client.Reader, claim metav1.Object) ([]corev1.Toleration, error) {
	name := claim.GetAnnotations()[AnnotationSelectedNode]
	if name == "" {
		return nil, nil
	}
	node, err := shared.Find(ctx, reader, client.ObjectKey{Name: name}, &corev1.Node{})
	if err != nil || node == nil {
		return nil, err
	}
	var out []corev1.Toleration
	for _, taint := range node.Spec.Taints {
		if !strings.HasPrefix(taint.Key, stateTaints) {
			out = append(out, corev1.Toleration{Key: taint.Key, Operator: corev1.TolerationOpEqual, Value: taint.Value, Effect: taint.Effect})
		}
	}
	return out, nil
}
