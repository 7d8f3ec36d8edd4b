// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "testing"

const (
	disk = `
kind: VirtualDisk
metadata: {name: data}
spec:
  persistentVolumeClaim: {size: 10Gi}
`
	filledDisk = `
kind: VirtualDisk
metadata: {name: data}
spec:
  persistentVolumeClaim: {size: 10Gi}
  dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: debian}}
`
)

func TestDiskAccepts(t *testing.T) {
	checkCreations(t, disk, map[string]creation{
		"blank":                    {},
		"size as a number":         {change: "spec: {persistentVolumeClaim: {size: 1073741824}}"},
		"with a storage class":     {change: "spec: {persistentVolumeClaim: {storageClassName: fast}}"},
		"from a page":              {change: "spec: {persistentVolumeClaim: null, dataSource: {type: HTTP, http: {url: 'https://example.com/a.qcow2'}}}"},
		"from an image":            {change: "spec: {persistentVolumeClaim: null, dataSource: {type: ObjectRef, objectRef: {kind: ClusterVirtualImage, name: debian.13}}}"},
		"from a container":         {change: "spec: {dataSource: {type: ContainerImage, containerImage: {image: 'registry.example.com:5000/disks/debian:13@sha256:" + digits64 + "', imagePullSecret: {name: a}}}}"},
		"from a short name":        {change: "spec: {dataSource: {type: ContainerImage, containerImage: {image: debian}}}"},
		"from an upload":           {change: "spec: {persistentVolumeClaim: null, dataSource: {type: Upload}}"},
		"from a checked upload":    {change: "spec: {dataSource: {type: Upload, upload: {checksum: {sha256: " + digits64 + "}}}}"},
		"with every digest":        {change: "spec: {dataSource: {type: HTTP, http: {url: 'http://a/b', checksum: {" + everyDigest + "}}}}"},
		"with a certificate":       {change: "spec: {dataSource: {type: HTTP, http: {url: 'http://a/b', caBundle: Y2VydA==}}}"},
		"from an address, a query": {change: "spec: {dataSource: {type: HTTP, http: {url: 'http://10.0.0.1:8080/a?b=c#d'}}}"},
	})
}

const (
	digits32    = "0123456789abcdefABCDEF0123456789"
	digits64    = digits32 + digits32
	everyDigest = "md5: " + digits32 + ", sha1: 01234567" + digits32 + ", sha256: " + digits64 + ", sha512: " + digits64 + digits64 +
		", streebog256: " + digits64 + ", streebog512: " + digits64 + digits64
)

func TestDiskRefusals(t *testing.T) {
	checkCreations(t, disk, map[string]creation{
		"dots in the name":  {"metadata: {name: data.disk}", []string{"metadata.name must not contain dots"}},
		"blank, no size":    {"spec: {persistentVolumeClaim: {size: null}}", []string{"spec.persistentVolumeClaim.size", "size must be set for a blank disk, for example 10Gi"}},
		"blank, no volume":  {"spec: {persistentVolumeClaim: null}", []string{"spec.persistentVolumeClaim.size", "size must be set for a blank disk"}},
		"size of nothing":   {"spec: {persistentVolumeClaim: {size: 0}}", []string{"spec.persistentVolumeClaim.size", "must be greater than zero"}},
		"negative size":     {"spec: {persistentVolumeClaim: {size: -1Gi}}", []string{"spec.persistentVolumeClaim.size", "must be greater than zero"}},
		"size in words":     {"spec: {persistentVolumeClaim: {size: ten}}", []string{"spec.persistentVolumeClaim.size"}},
		"from a snapshot":   {"spec: {dataSource: {type: ObjectRef, objectRef: {kind: VirtualDiskSnapshot, name: a}}}", []string{"spec.dataSource.objectRef.kind", `"ClusterVirtualImage", "VirtualImage"`}},
		"from a disk":       {"spec: {dataSource: {type: ObjectRef, objectRef: {kind: VirtualDisk, name: a}}}", []string{"spec.dataSource.objectRef.kind"}},
		"binding mode":      {"spec: {bindingMode: Immediate}", []string{`unknown field "spec.bindingMode"`}},
		"no name of source": {"spec: {dataSource: {type: ObjectRef, objectRef: {kind: VirtualImage, name: ''}}}", []string{"spec.dataSource.objectRef.name"}},
	})
}

// sourceRefusals are the same for disks and both kinds of images.
var sourceRefusals = map[string]creation{
	"source without a type":      {"spec: {dataSource: {type: null, http: {url: 'http://a/b'}}}", []string{"spec.dataSource.type: Required value"}},
	"source of an unknown type":  {"spec: {dataSource: {type: FTP}}", []string{"spec.dataSource.type", `"HTTP", "ContainerImage", "ObjectRef", "Upload"`}},
	"page without an address":    {"spec: {dataSource: {type: HTTP, http: {url: null}}}", []string{"spec.dataSource.http.url: Required value"}},
	"page missing":               {"spec: {dataSource: {type: HTTP, http: null}}", []string{"spec.dataSource.http", "http must be set when type is HTTP, and only then"}},
	"page over FTP":              {"spec: {dataSource: {type: HTTP, http: {url: 'ftp://a/b'}}}", []string{"spec.dataSource.http.url", "must begin with http:// or https://"}},
	"page without a host":        {"spec: {dataSource: {type: HTTP, http: {url: 'http:///b'}}}", []string{"spec.dataSource.http.url", "name a host"}},
	"page with a blank":          {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b c'}}}", []string{"spec.dataSource.http.url"}},
	"page and container":         {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b'}, containerImage: {image: a}}}", []string{"spec.dataSource.containerImage", "must be set when type is ContainerImage, and only then"}},
	"page and object":            {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b'}, objectRef: {kind: ClusterVirtualImage, name: a}}}", []string{"spec.dataSource.objectRef", "only then"}},
	"page and upload":            {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b'}, upload: {}}}", []string{"spec.dataSource.upload", "may be set only when type is Upload"}},
	"short digest":               {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b', checksum: {sha256: abc}}}}", []string{"spec.dataSource.http.checksum.sha256", "at least 64"}},
	"digest of other letters":    {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b', checksum: {md5: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz}}}}", []string{"spec.dataSource.http.checksum.md5", "[0-9a-fA-F]"}},
	"certificate not in base64":  {"spec: {dataSource: {type: HTTP, http: {url: 'http://a/b', caBundle: '-----BEGIN'}}}", []string{"spec.dataSource.http.caBundle", "byte"}},
	"container without an image": {"spec: {dataSource: {type: ContainerImage, http: null, containerImage: {}}}", []string{"spec.dataSource.containerImage.image: Required value"}},
	"container with a scheme":    {"spec: {dataSource: {type: ContainerImage, http: null, containerImage: {image: 'https://a/b'}}}", []string{"spec.dataSource.containerImage.image", "must be a container image reference, for example registry.example.com/disks/debian:13"}},
}

func TestDiskRefusesSources(t *testing.T) {
	checkCreations(t, disk, sourceRefusals)
}

func TestDiskUpdates(t *testing.T) {
	checkUpdates(t, filledDisk, map[string]update{
		"size raised":              {status: "{phase: Ready}", change: "spec: {persistentVolumeClaim: {size: 11Gi}}"},
		"size written otherwise":   {status: "{phase: Ready}", change: "spec: {persistentVolumeClaim: {size: 10240Mi}}"},
		"size lowered in time":     {status: "{phase: Provisioning}", change: "spec: {persistentVolumeClaim: {size: 5Gi}}"},
		"size lowered at once":     {change: "spec: {persistentVolumeClaim: {size: 5Gi}}"},
		"size set to the capacity": {before: "spec: {persistentVolumeClaim: null}", status: "{phase: Ready, capacity: 2Gi}", change: "spec: {persistentVolumeClaim: {size: 2Gi}}"},
		"storage class changed":    {status: "{phase: Ready}", change: "spec: {persistentVolumeClaim: {storageClassName: fast}}"},
		"source corrected":         {status: "{phase: Failed}", change: "spec: {dataSource: {objectRef: {name: ubuntu}}}"},
		"labels while terminating": {status: "{phase: Terminating}", change: "metadata: {labels: {a: b}}"},
		"size lowered": {
			status: "{phase: Ready}", change: "spec: {persistentVolumeClaim: {size: 9.5Gi}}",
			problems: []string{"spec.persistentVolumeClaim.size", "cannot be lowered or removed: keep it or raise it"},
		},
		"size removed": {
			status: "{phase: Resizing}", change: "spec: {persistentVolumeClaim: {size: null}}",
			problems: []string{"spec.persistentVolumeClaim.size", "cannot be lowered or removed"},
		},
		"size set below the capacity": {
			before: "spec: {persistentVolumeClaim: null}", status: "{phase: Ready, capacity: 2Gi}",
			change:   "spec: {persistentVolumeClaim: {size: 1Gi}}",
			problems: []string{"spec.persistentVolumeClaim.size", "cannot be lower than status.capacity"},
		},
		"size raised during a move": {
			status: "{phase: Migrating}", change: "spec: {persistentVolumeClaim: {size: 20Gi}}",
			problems: []string{"spec.persistentVolumeClaim.size", "wait until the phase is Ready"},
		},
		"source changed": {
			status: "{phase: Ready}", change: "spec: {dataSource: {objectRef: {name: ubuntu}}}",
			problems: []string{"spec.dataSource", "delete the disk and make it again"},
		},
		"source removed": {
			status: "{phase: PVCLost}", change: "spec: {dataSource: null}",
			problems: []string{"spec.dataSource", "cannot be changed"},
		},
		"anything while terminating": {
			status: "{phase: Terminating}", change: "spec: {persistentVolumeClaim: {size: 20Gi}}",
			problems: []string{"spec", "while the disk is being deleted"},
		},
	})
}

func TestDiskStatus(t *testing.T) {
	checkUpdates(t, filledDisk, map[string]update{
		"everything": {status: `
phase: WaitForFirstConsumer
observedGeneration: 1
progress: 55%
capacity: 10Gi
storageClassName: fast
target: {persistentVolumeClaimName: claim}
attachedToVirtualMachines: [{name: web, mounted: true}, {name: db}]
downloadSpeed: {avg: 1Mi/s, avgBytes: "1048576", current: 2Mi/s, currentBytes: "2097152"}
imageUploadURLs: {external: 'https://a/upload/x', inCluster: 'http://10.96.0.7/upload'}
uploadCommand: curl https://a/upload/x -T file
sourceUID: b
stats: {creationDuration: {waitingForDependencies: 1s, waitingForFirstConsumer: null, dvcrProvisioning: 2s, totalProvisioning: 3s}}
migrationState: {sourcePVC: a, targetPVC: b, result: Succeeded, message: c, startTimestamp: "2026-01-02T03:04:05Z", endTimestamp: "2026-01-02T03:04:05Z"}
`},
	})
}
