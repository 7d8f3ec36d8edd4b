// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func TestStripLeavesTheEnd(t *testing.T) {
	got := strip(&unstructured.Unstructured{Object: map[string]any{
		"kind": "VirtualMachine",
		"metadata": map[string]any{
			"name": "web", "generation": int64(3), "resourceVersion": "17", "creationTimestamp": "2026-03-01T12:00:00Z",
			"annotations": map[string]any{"virtualization.deckhouse.io/applied-hash": "a", "example.org/note": "b"},
		},
		"status": map[string]any{
			"observedGeneration": int64(3), "stats": map[string]any{"lastStartTime": "x"},
			"conditions": []any{map[string]any{"type": "Ready", "observedGeneration": int64(2)}},
		},
	}})
	want := map[string]any{
		"kind":     "VirtualMachine",
		"metadata": map[string]any{"name": "web", "annotations": map[string]any{"example.org/note": "b"}},
		"status": map[string]any{
			"observedGeneration": "newest",
			"conditions":         []any{map[string]any{"type": "Ready", "observedGeneration": "1 behind"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	secret := strip(&unstructured.Unstructured{Object: map[string]any{"kind": "Secret", "data": map[string]any{"token": "eyJ"}}})
	if diff := cmp.Diff(map[string]any{"token": "<hidden>"}, secret["data"]); diff != "" {
		t.Error(diff)
	}
}

func TestWordsAreTheSameInEveryPlay(t *testing.T) {
	const uid, diskUID = "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11", "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	s := &snapshots{namespace: "test-x7k2p", addresses: "10.101.17.", names: map[string]string{}}
	for _, object := range []struct{ kind, name, uid string }{
		{"VirtualMachine", "web", uid}, {"VirtualMachineInstance", "web", uid}, {"VirtualDisk", "root", diskUID},
		{"PersistentVolumeClaim", "d8v-vd-" + diskUID, "aaaaaaaa-8a0c-4b3c-9a3a-1a8b6f3e6a11"},
	} {
		item := &unstructured.Unstructured{Object: map[string]any{"kind": object.kind}}
		item.SetName(object.name)
		item.SetUID(types.UID(object.uid))
		s.learn(item)
	}
	for text, want := range map[string]string{
		"web-7d3d1557 of test-x7k2p":              "<address of web> of <namespace>",
		"pod virt-launcher-web-3f1c2":             "pod <pod of web>",
		"pv-aaaaaaaa-8a0c-4b3c-9a3a-1a8b6f3e6a11": "pv-<PersistentVolumeClaim d8v-vd-<VirtualDisk root>>",
		"10.101.17.4 is ip-10-101-17-4":           "<range>.4 is ip-<range>-4",
		"until 2026-03-01T12:10:00Z":              "until <time>",
		"of bbbbbbbb-8a0c-4b3c-9a3a-1a8b6f3e6a11": "of <uid>",
		"mac 02:13:71:65:97:0e":                   "mac <hash>",
		"serial 876b3387abb6599db7bff55001c2d8b6": "serial <hash>",
		"VMOP vmop-evacuation-web-0a1b2c3d":       "VMOP vmop-<evacuation of web>",
		"16 CPUs for 12345678 people":             "16 CPUs for 12345678 people",
	} {
		if got := s.inWords(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// What is there only in passing is seen in some plays and not in others.
func TestNamesAreKeptFromThePointsThatWereReached(t *testing.T) {
	const text = "pv-aaaaaaaa-8a0c-4b3c-9a3a-1a8b6f3e6a11"
	s := &snapshots{namespace: "test-x7k2p", addresses: "10.101.17."}
	claim := &unstructured.Unstructured{Object: map[string]any{"kind": "PersistentVolumeClaim"}}
	claim.SetName("data")
	claim.SetUID("aaaaaaaa-8a0c-4b3c-9a3a-1a8b6f3e6a11")
	for _, step := range []struct {
		sees, reaches bool
		want          string
	}{
		{want: "pv-<uid>"},
		{sees: true, want: "pv-<PersistentVolumeClaim data>"},
		{want: "pv-<uid>"},
		{sees: true, reaches: true, want: "pv-<PersistentVolumeClaim data>"},
		{want: "pv-<PersistentVolumeClaim data>"},
	} {
		s.forgetPassing()
		if step.sees {
			s.learn(claim)
		}
		if step.reaches {
			s.keepNames()
		}
		if got := s.inWords(text); got != step.want {
			t.Errorf("got %s, want %s", got, step.want)
		}
	}
}
