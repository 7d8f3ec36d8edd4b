// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "testing"

const (
	image = `
kind: VirtualImage
metadata: {name: debian}
spec:
  storage: ContainerRegistry
  dataSource: {type: HTTP, http: {url: 'https://example.com/debian.qcow2'}}
`
	clusterImage = `
kind: ClusterVirtualImage
metadata: {name: debian}
spec:
  dataSource: {type: HTTP, http: {url: 'https://example.com/debian.qcow2'}}
`
	imageStatus = `
phase: Ready
observedGeneration: 1
progress: 100%
cdrom: false
format: qcow2
size: {stored: 1Mi, storedBytes: "1048576", unpacked: 2Mi, unpackedBytes: "2097152"}
downloadSpeed: {avg: 1Mi/s, avgBytes: "1048576"}
imageUploadURLs: {external: a, inCluster: b}
uploadCommand: c
sourceUID: d
`
)

func TestImageDefaults(t *testing.T) {
	checkDefaults(t, `
kind: VirtualImage
metadata: {name: debian}
spec:
  dataSource: {type: Upload}
`, `
storage: ContainerRegistry
dataSource: {type: Upload}
`)
}

func TestImageAccepts(t *testing.T) {
	checkCreations(t, image, map[string]creation{
		"in the registry":              {},
		"on a volume":                  {change: "spec: {storage: PersistentVolumeClaim, persistentVolumeClaim: {storageClassName: fast}}"},
		"on a volume, by the old name": {change: "spec: {storage: Kubernetes}"},
		"from an image":                {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualImage, name: a}}}"},
		"from a cluster image":         {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: ClusterVirtualImage, name: a}}}"},
		"from a disk":                  {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualDisk, name: a}}}"},
	})
}

func TestImageRefusals(t *testing.T) {
	checkCreations(t, image, map[string]creation{
		"dots in the name": {"metadata: {name: debian.13}", []string{"metadata.name must not contain dots", "with dashes"}},
		"unknown storage":  {"spec: {storage: Disk}", []string{"spec.storage", `"PersistentVolumeClaim"`}},
		"no source":        {"spec: {dataSource: null}", []string{"spec.dataSource: Required value"}},
		"from a snapshot":  {"spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualDiskSnapshot, name: a}}}", []string{"spec.dataSource.objectRef.kind"}},
	})
}

func TestImagesRefuseSources(t *testing.T) {
	t.Run("project", func(t *testing.T) { checkCreations(t, image, sourceRefusals) })
	t.Run("cluster", func(t *testing.T) { checkCreations(t, clusterImage, sourceRefusals) })
}

func TestImageUpdates(t *testing.T) {
	const otherSource = "spec: {dataSource: {http: {url: 'https://example.com/other.qcow2'}}}"
	checkUpdates(t, image, map[string]update{
		"source corrected":       {status: "{phase: Failed}", change: otherSource},
		"source changed at once": {change: otherSource},
		"labels":                 {status: imageStatus, change: "metadata: {labels: {a: b}}"},
		"source changed": {
			status: imageStatus, change: otherSource,
			problems: []string{"spec", "delete the image and make it again"},
		},
		"source changed, image lost": {
			status: "{phase: ImageLost}", change: otherSource,
			problems: []string{"cannot be changed"},
		},
		"storage changed": {
			status: imageStatus, change: "spec: {storage: PersistentVolumeClaim}",
			problems: []string{"cannot be changed"},
		},
		"on a volume": {
			before: "spec: {storage: PersistentVolumeClaim}",
			status: "{phase: Ready, target: {persistentVolumeClaimName: a, registryURL: b}, storageClassName: fast}",
			change: "spec: {persistentVolumeClaim: {storageClassName: slow}}", problems: []string{"cannot be changed"},
		},
	})
}

func TestClusterImageAccepts(t *testing.T) {
	checkCreations(t, clusterImage, map[string]creation{
		"page":          {},
		"image":         {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualImage, name: a, namespace: b}}}"},
		"disk":          {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualDisk, name: a, namespace: b}}}"},
		"cluster image": {change: "spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: ClusterVirtualImage, name: a}}}"},
		"container":     {change: "spec: {dataSource: {type: ContainerImage, http: null, containerImage: {image: a/b, imagePullSecret: {name: c, namespace: d}}}}"},
	})
}

func TestClusterImageRefusals(t *testing.T) {
	checkCreations(t, clusterImage, map[string]creation{
		"dots in the name": {"metadata: {name: debian.13}", []string{"metadata.name must not contain dots"}},
		"image of no project": {
			"spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualImage, name: a}}}",
			[]string{"spec.dataSource.objectRef.namespace", "must be set unless kind is ClusterVirtualImage"},
		},
		"namespace too long": {
			"spec: {dataSource: {type: ObjectRef, http: null, objectRef: {kind: VirtualDisk, name: a, namespace: " + digits64 + "}}}",
			[]string{"spec.dataSource.objectRef.namespace", "shorter than 64 characters"},
		},
		"storage": {"spec: {storage: ContainerRegistry}", []string{`unknown field "spec.storage"`}},
	})
}

func TestClusterImageUpdates(t *testing.T) {
	const otherSource = "spec: {dataSource: {http: {url: 'https://example.com/other.qcow2'}}}"
	const status = imageStatus + "target: {registryURL: a}\nusedInNamespaces: [a, b]\n"
	checkUpdates(t, clusterImage, map[string]update{
		"source corrected":           {status: "{phase: Failed}", change: otherSource},
		"labels":                     {status: status, change: "metadata: {labels: {a: b}}"},
		"source changed, image lost": {status: "{phase: ImageLost}", change: otherSource},
		"source changed": {
			status: status, change: otherSource,
			problems: []string{"spec", "delete the image and make it again"},
		},
	})
}
