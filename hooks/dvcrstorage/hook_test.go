// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrvolume

import (
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	own = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: dvcr, namespace: d8-virtualization}
spec: {storageClassName: fast, resources: {requests: {storage: 20Gi}}}
`
	foreign = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: dvcr, namespace: default}
spec: {storageClassName: slow, resources: {requests: {storage: 2Ti}}}
`
)

func run(storage string) hooktest.Run {
	return hooktest.Run{Config: Config, Objects: []string{own, foreign}, Values: "{virtualization: {dvcr: {storage: " + storage + "}}}"}
}

func TestHandle(t *testing.T) {
	for name, storage := range map[string]string{
		"as it is":      "{persistentVolumeClaim: {size: 20Gi, storageClassName: fast}}",
		"without class": "{persistentVolumeClaim: {size: 20Gi}}",
		"larger":        "{persistentVolumeClaim: {size: 1Ti}}",
		"in a bucket":   "{type: ObjectStorage, objectStorage: {s3: {bucket: images}}, persistentVolumeClaim: {size: 1Gi}}",
	} {
		if set := run(storage).Handle(t, Handle).Paths(); len(set) > 0 {
			t.Errorf("%s: sets %v, but it only judges", name, set)
		}
	}
	for storage, want := range map[string]string{
		"{persistentVolumeClaim: {size: 19Gi}}":                         "has 20Gi and can't shrink to 19Gi",
		"{persistentVolumeClaim: {size: 20Gi, storageClassName: slow}}": "of the class fast, which can't be changed to slow",
		"{persistentVolumeClaim: {size: much}}":                         `"much" is no size`,
		"{type: PersistentVolumeClaim}":                                 "dvcr.storage.persistentVolumeClaim: is required where dvcr.storage.type is PersistentVolumeClaim",
		"{objectStorage: {}}":                                           "dvcr.storage.persistentVolumeClaim: is required",
		"{type: ObjectStorage, persistentVolumeClaim: {size: 20Gi}}":    "dvcr.storage.objectStorage: is required where dvcr.storage.type is ObjectStorage",
	} {
		if got := run(storage).Fail(t, Handle); !strings.Contains(got.Error(), want) {
			t.Errorf("%s: got %v, want %q", storage, got, want)
		}
	}
}

// Before the volume exists everything goes.
func TestHandleWithoutAVolume(t *testing.T) {
	first := run("{persistentVolumeClaim: {size: 1Gi, storageClassName: any}}")
	first.Objects = []string{foreign}
	first.Handle(t, Handle)
}

func TestJudgeUnreadable(t *testing.T) {
	if err := Judge(Volume{Size: "1Gi"}, Volume{Size: "?"}, true); err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("got %v", err)
	}
}

func TestNothingStartsTheHook(t *testing.T) {
	for _, binding := range Config.Kubernetes {
		if *binding.ExecuteHookOnEvents || *binding.ExecuteHookOnSynchronization {
			t.Errorf("%s starts the hook", binding.Name)
		}
	}
}
