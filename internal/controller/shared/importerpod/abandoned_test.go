// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLeave(t *testing.T) {
	ended := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const silent = "Node node-2 does not tell that the importer has ended. "
	tests := map[string]struct {
		heard, now time.Time
		claim      string
		another    bool
		deleted    bool
		after      time.Duration
		message    string
	}{
		"is ending":               {now: ended.Add(-10 * time.Second), after: 70 * time.Second},
		"should have ended":       {now: ended.Add(59 * time.Second), after: time.Second},
		"should long have ended":  {now: ended.Add(time.Minute), deleted: true, message: silent + "Another importer takes over"},
		"was heard of before":     {heard: ended.Add(-time.Hour), now: ended.Add(time.Minute), deleted: true, message: silent + "Another importer takes over"},
		"is still heard of":       {heard: ended.Add(time.Hour), now: ended.Add(time.Hour + time.Second), after: 59 * time.Second},
		"is not heard of anymore": {heard: ended.Add(time.Hour), now: ended.Add(2 * time.Hour), deleted: true, message: silent + "Another importer takes over"},
		"of another source": {now: ended.Add(time.Hour), another: true, message: silent +
			"If the node is off for good, tell the cluster by the taint node.kubernetes.io/out-of-service: then it is not waited for any more"},
		"has a volume, is ending": {now: ended, claim: "prime", after: time.Minute},
		"has a volume": {now: ended.Add(time.Hour), claim: "prime", message: silent +
			"If the node is off for good, tell the cluster by the taint node.kubernetes.io/out-of-service: then it is not waited for any more"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "module", Name: "importer", UID: "pod-uid", DeletionTimestamp: &metav1.Time{Time: ended}}}
			pod.Spec.NodeName = "node-2"
			pod.Spec.Volumes = []corev1.Volume{emptyDir(tmpVolume)}
			if test.claim != "" {
				pod.Spec.Volumes = append(pod.Spec.Volumes, claim(targetVolume, test.claim))
			}
			got := Leave(pod, test.heard, test.now, !test.another)
			if (got.Delete != nil) != test.deleted || got.After != test.after || got.Message != test.message {
				t.Errorf("%+v", got)
			}
			if got.Delete != nil && (got.Delete.GetUID() != "pod-uid" || got.Delete.GetName() != "importer" || got.Delete.GetNamespace() != "module") {
				t.Errorf("deletes %v", got.Delete)
			}
		})
	}
}
