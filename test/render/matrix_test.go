// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"sync"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
)

// matrix names the ways the module is set up in; every test that states a rule states it for all of them.
var matrix = map[string]Case{
	"least settings": {},
	"first run": {Internal: map[string]any{
		"dvcr": map[string]any{"tokenPrivateKey": "PRIVATE PEM\n", "tokenPublicKey": "PUBLIC PEM\n", "httpSecret": "hunter2", "pullToken": "PULL.TO.KEN"},
	}},
	"high availability by setting": {Settings: map[string]any{"highAvailability": true}},
	"high availability by three control planes": {Global: map[string]any{"discovery": map[string]any{
		"clusterMasterCount": 3, "clusterControlPlaneIsHighlyAvailable": true, "clusterDomain": "example.internal",
		"d8SpecificNodeCountByRole": map[string]any{},
	}}},
	"software emulation": {Settings: map[string]any{"softwareEmulation": true}},
	"storage classes": {Settings: map[string]any{
		"dvcr": map[string]any{"storage": map[string]any{
			"type":                  "PersistentVolumeClaim",
			"persistentVolumeClaim": map[string]any{"size": "1Ti", "storageClassName": "slow"},
		}},
		"virtualDisks": map[string]any{
			"defaultStorageClassName":     "fast",
			"allowedStorageClassSelector": map[string]any{"matchNames": []any{"fast", "slow"}},
		},
		"virtualImages": map[string]any{
			"defaultStorageClassName":     "cold",
			"allowedStorageClassSelector": map[string]any{"matchNames": []any{"cold", "slow"}},
		},
	}},
	"registry tuned": {Settings: map[string]any{"dvcr": map[string]any{
		"storage": map[string]any{
			"type":                  "PersistentVolumeClaim",
			"persistentVolumeClaim": map[string]any{"size": "10Gi"},
		},
		"gc": map[string]any{"schedule": "30 3 * * *"},
	}}},
	"images in a bucket": {Settings: map[string]any{"dvcr": map[string]any{
		"storage": map[string]any{
			"type": "ObjectStorage",
			"objectStorage": map[string]any{"type": "S3", "s3": map[string]any{
				"region": "ru-1", "regionEndpoint": "https://s3.example.com", "bucket": "images",
				"accessKey": "QUtJQQ==", "secretKey": "c2VjcmV0", "caBundle": "-----BEGIN CERTIFICATE-----\nCA\n-----END CERTIFICATE-----\n",
			}},
		},
		"gc": map[string]any{"schedule": "0 * * * *"},
	}}},
	"audited": {Settings: map[string]any{"audit": map[string]any{"enabled": true}}},
	"migrations limited": {Settings: map[string]any{"liveMigration": map[string]any{
		"maxMigrationsPerCluster": 10, "maxMigrationsPerNode": 1, "bandwidthPerMigration": "640Mi",
		"completionTimeoutPerGiB": 800, "progressTimeout": 300,
	}}},
	"certificate of the administrator": {
		Settings: map[string]any{
			"https":        map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": "uploads-tls"}},
			"ingressClass": "public",
		},
		Internal: map[string]any{"customCertificateData": map[string]any{"ca.crt": "CA", "tls.crt": "CRT", "tls.key": "KEY"}},
	},
	"TLS ends before the cluster": {Settings: map[string]any{"https": map[string]any{"mode": "OnlyInURI"}}},
	"no TLS":                      {Settings: map[string]any{"https": map[string]any{"mode": "Disabled"}}},
	"no public domain": {Global: map[string]any{"modules": map[string]any{
		"https": map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": "none"}},
	}}},
	"nodes for the system": {Global: map[string]any{"discovery": map[string]any{
		"clusterMasterCount": 1, "clusterDomain": "example.internal",
		"d8SpecificNodeCountByRole": map[string]any{"system": 2},
	}}},
	"logs for machines":            {Settings: map[string]any{"logLevel": "debug", "logFormat": "json"}},
	"role model of Deckhouse 1.78": {Global: map[string]any{"deckhouseVersion": "v1.78.0"}},
	"bare platform": {
		Settings: map[string]any{"registry": map[string]any{"base": "registry.example.com/modules", "dockercfg": ""}},
		Global:   map[string]any{"enabledModules": []any{"virtualization", "cni-cilium"}},
	},
}

var loadOnce = sync.OnceValues(LoadChart)

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	loaded, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func render(t *testing.T, c Case) []Object {
	t.Helper()
	objects, err := Render(loadChart(t), c)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// forEach runs a test for every set-up of the matrix.
func forEach(t *testing.T, test func(t *testing.T, objects []Object)) {
	t.Helper()
	for name, c := range matrix {
		t.Run(name, func(t *testing.T) { test(t, render(t, c)) })
	}
}

// find returns the one object of a kind and name.
func find(t *testing.T, objects []Object, kind, name string) Object {
	t.Helper()
	if object, found := lookup(objects, kind, name); found {
		return object
	}
	t.Fatalf("no %s %s was rendered", kind, name)
	return Object{}
}

func lookup(objects []Object, kind, name string) (Object, bool) {
	for _, object := range objects {
		if object.GetKind() == kind && object.GetName() == name {
			return object, true
		}
	}
	return Object{}, false
}
