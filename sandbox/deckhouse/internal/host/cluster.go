// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

const (
	apiTimeout  = 2 * time.Minute
	apiInterval = time.Second
)

// waitForAPI lets the host start before the cluster does.
func (h *Host) waitForAPI(ctx context.Context) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, apiInterval, apiTimeout, true, func(ctx context.Context) (bool, error) {
		_, last = h.kubernetes.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if last != nil {
			h.logger.Debug("the API does not answer yet", slog.Any("error", last))
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("the API did not answer for %s: %w", apiTimeout, last)
	}
	return nil
}

func ensureNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"heritage": "deckhouse"}}}
	_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	return nil
}

// newRecorder sends events until the context ends.
func newRecorder(ctx context.Context, client kubernetes.Interface) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "deckhouse"})
}
