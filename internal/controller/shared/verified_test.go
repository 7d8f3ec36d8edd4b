// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func storedMap(uid, version, value string) *corev1.ConfigMap {
	out := configMap("child", value)
	out.UID, out.ResourceVersion = types.UID(uid), version
	return out
}

func TestVerifiedRemembersOneVersion(t *testing.T) {
	v := newVerified()
	child := Child{Want: configMap("child", "ours"), Have: storedMap("uid", "1", "ours")}
	uid, found, known := v.findingOf(child)
	if !known || v.has(uid, found) {
		t.Fatalf("can be remembered: %t, and is at once", known)
	}
	v.note(uid, found)
	for _, test := range []struct {
		name  string
		child Child
		want  bool
	}{
		{"the same", child, true},
		{"made anew, but the same", Child{Want: configMap("child", "ours"), Have: storedMap("uid", "1", "ours")}, true},
		{"another version", Child{Want: child.Want, Have: storedMap("uid", "2", "ours")}, false},
		{"something else wanted", Child{Want: configMap("child", "new"), Have: child.Have}, false},
		{"a namesake", Child{Want: child.Want, Have: storedMap("other", "1", "ours")}, false},
	} {
		uid, found, known := v.findingOf(test.child)
		if !known || v.has(uid, found) != test.want {
			t.Errorf("%s: in order %t", test.name, !test.want)
		}
	}
}

func TestVerifiedForgetsWhatCannotBeTold(t *testing.T) {
	for name, have := range map[string]client.Object{
		"nothing": nil, "a typed nothing": (*corev1.ConfigMap)(nil), "no uid": storedMap("", "1", "x"), "no version": storedMap("uid", "", "x"),
	} {
		if _, _, known := newVerified().findingOf(Child{Want: configMap("child", "x"), Have: have}); known {
			t.Errorf("%s can be remembered", name)
		}
	}
	var none *verified
	if _, _, known := none.findingOf(Child{Want: configMap("child", "x"), Have: storedMap("uid", "1", "x")}); known {
		t.Error("nil remembers")
	}
}

// What was found in order is looked at again as soon as it or the wish changes.
func TestApplyAfterAChildWasVerified(t *testing.T) {
	w := newWorld(t, pod("owner"))
	w.executor.verified = newVerified()
	apply := func(value string, have *corev1.ConfigMap) {
		t.Helper()
		child := Child{Want: configMap("child", value)}
		if have != nil {
			child.Have = have
		}
		if err := w.executor.apply(t.Context(), child); err != nil {
			t.Fatal(err)
		}
	}
	apply("ours", nil)
	w.expectWrites(t, "apply child")
	stored := &corev1.ConfigMap{}
	if err := w.executor.Client.Get(t.Context(), client.ObjectKey{Namespace: "team", Name: "child"}, stored); err != nil {
		t.Fatal(err)
	}
	// The fake server gives neither.
	stored.UID, stored.ResourceVersion = "uid", "1"
	apply("ours", stored)
	apply("ours", stored)
	w.expectWrites(t)
	if uid, found, _ := w.executor.verified.findingOf(Child{Want: configMap("child", "ours"), Have: stored}); !w.executor.verified.has(uid, found) {
		t.Error("the comparison is not remembered")
	}
	changed := stored.DeepCopy()
	changed.ResourceVersion, changed.Data["key"] = "99", "theirs"
	apply("ours", changed)
	w.expectWrites(t, "apply child")
	apply("new", stored)
	w.expectWrites(t, "apply child")
}
