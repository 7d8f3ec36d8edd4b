// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"
)

const required = `
virtualMachineCIDRs: [10.66.10.0/24]
dvcr: {storage: {type: PersistentVolumeClaim, persistentVolumeClaim: {size: 60G}}}
`

// collected are settings with a schedule of the registry's garbage collection.
func collected(schedule string) string {
	return fmt.Sprintf("dvcr: {storage: {persistentVolumeClaim: {size: 1G}}, gc: {schedule: %q}}", schedule)
}

const (
	bucketAddress = "region: ru-1, regionEndpoint: 'https://s3.example.com', bucket: virtualization-images"
	bucketKeys    = ", accessKey: QUtJQQ==, secretKey: c2VjcmV0"
)

// bucket are settings with the images in an object storage.
func bucket(s3 string) string {
	return "dvcr: {storage: {type: ObjectStorage, objectStorage: {type: S3, s3: " + s3 + "}}}"
}

func TestSettingsThatAreRight(t *testing.T) {
	tests := map[string]string{
		"least":                       "{}",
		"several ranges":              "virtualMachineCIDRs: [10.66.10.0/24, 192.168.0.0/16, 10.0.0.1/32]",
		"storage of the registry":     "dvcr: {storage: {persistentVolumeClaim: {size: 1.5Ti, storageClassName: local.path-1}}}",
		"bucket of the registry":      bucket("{" + bucketAddress + bucketKeys + "}"),
		"bucket with authorities":     bucket("{" + bucketAddress + bucketKeys + ", caBundle: \"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n\"}"),
		"bucket over plain HTTP":      bucket("{region: us-east-1, regionEndpoint: 'http://10.0.0.1:9000', bucket: images" + bucketKeys + "}"),
		"limits of migrations":        "liveMigration: {maxMigrationsPerCluster: 10, maxMigrationsPerNode: 1, bandwidthPerMigration: 640Mi, completionTimeoutPerGiB: 800, progressTimeout: 300}",
		"one limit of migrations":     "liveMigration: {bandwidthPerMigration: '0'}",
		"feature gates":               "featureGates: [HotplugCPUWithLiveMigration, HotplugMemoryWithLiveMigration]",
		"no feature gate":             "featureGates: []",
		"audit":                       "audit: {enabled: true}",
		"no audit":                    "audit: {}",
		"no certificate":              "https: {mode: Disabled}",
		"storage of disks":            "virtualDisks: {defaultStorageClassName: fast, allowedStorageClassSelector: {matchNames: [fast, slow]}}",
		"storage of images":           "virtualImages: {defaultStorageClassName: fast, allowedStorageClassSelector: {matchNames: [fast]}}",
		"high availability":           "highAvailability: true",
		"no high availability":        "highAvailability: false",
		"ingress class":               "ingressClass: public",
		"certificate of its own":      "https: {mode: CustomCertificate, customCertificate: {secretName: uploads-tls}}",
		"certificate of an issuer":    "https: {mode: CertManager, certManager: {clusterIssuerName: letsencrypt}}",
		"TLS ends before the cluster": "https: {mode: OnlyInURI}",
		"logs":                        "{logLevel: debug, logFormat: json}",
		"emulation":                   "softwareEmulation: true",
		"networks of both versions":   `imageSources: {allowedNetworks: [10.0.0.0/8, 192.0.2.1/32, "fd00::/8", "::1/128", "2001:db8:1:2:3:4:5:6/128"]}`,
		"nothing allowed":             "imageSources: {allowedNetworks: []}",
		"collection each night":       collected("0 3 * * *"),
		"collection by steps":         collected("*/30 */2 */3 */4 */5"),
		"collection by lists":         collected("0,15,59 0,12,23 1,15,31 1,6,12 0,6"),
	}
	schema := settingsSchema(t)
	for name, settings := range tests {
		t.Run(name, func(t *testing.T) {
			for _, problem := range Validate(schema, parse(t, required, settings)) {
				t.Error(problem)
			}
		})
	}
}

// Each refusal names the field, so that whoever wrote it finds it.
func TestSettingsThatAreWrong(t *testing.T) {
	tests := []struct {
		name, settings, want string
	}{
		{"unknown key", "virtualMachineCIDR: [10.0.0.0/8]", "virtualMachineCIDR in body is a forbidden property"},
		{"unknown key deep inside", "dvcr: {storage: {persistentVolumeClaim: {size: 1G, class: x}}}", "dvcr.storage.persistentVolumeClaim.class in body is a forbidden property"},
		{"no range", "virtualMachineCIDRs: []", "virtualMachineCIDRs in body should have at least 1 items"},
		{"range given twice", "virtualMachineCIDRs: [10.0.0.0/8, 10.0.0.0/8]", "virtualMachineCIDRs in body shouldn't contain duplicates"},
		{"address without a length", "virtualMachineCIDRs: [10.0.0.0]", "virtualMachineCIDRs[0] in body should match"},
		{"length that can't be", "virtualMachineCIDRs: [10.0.0.0/33]", "virtualMachineCIDRs[0] in body should match"},
		{"number that can't be", "virtualMachineCIDRs: [10.256.0.0/16]", "virtualMachineCIDRs[0] in body should match"},
		{"range that is a text", "virtualMachineCIDRs: 10.0.0.0/8", "virtualMachineCIDRs in body must be of type array"},
		{"registry without storage", "dvcr: {}", "dvcr.storage in body is required"},
		{"volume without a size", "dvcr: {storage: {persistentVolumeClaim: {}}}", "dvcr.storage.persistentVolumeClaim.size in body is required"},
		{"other kind of storage", "dvcr: {storage: {type: Tape, persistentVolumeClaim: {size: 1G}}}", "dvcr.storage.type in body should be one of [PersistentVolumeClaim ObjectStorage]"},
		{"bucket of another interface", "dvcr: {storage: {type: ObjectStorage, objectStorage: {type: Swift, s3: {" + bucketAddress + bucketKeys + "}}}}", "dvcr.storage.objectStorage.type in body should be one of [S3]"},
		{"object storage without a bucket", "dvcr: {storage: {type: ObjectStorage, objectStorage: {type: S3}}}", "dvcr.storage.objectStorage.s3 in body is required"},
		{"bucket without keys", bucket("{" + bucketAddress + ", accessKey: QUtJQQ==}"), "dvcr.storage.objectStorage.s3.secretKey in body is required"},
		{"key that is not encoded", bucket("{" + bucketAddress + ", accessKey: AKIA!, secretKey: c2VjcmV0}"), "dvcr.storage.objectStorage.s3.accessKey in body should match"},
		{"secret that is not encoded", bucket("{" + bucketAddress + ", accessKey: QUtJQQ==, secretKey: secret}"), "dvcr.storage.objectStorage.s3.secretKey in body should match"},
		{"storage without a scheme", bucket("{region: r, regionEndpoint: s3.example.com, bucket: images" + bucketKeys + "}"), "dvcr.storage.objectStorage.s3.regionEndpoint in body should match"},
		{"no region", bucket("{region: '', regionEndpoint: 'https://s3.example.com', bucket: images" + bucketKeys + "}"), "dvcr.storage.objectStorage.s3.region in body should be at least 1 chars long"},
		{"name of a bucket", bucket("{region: r, regionEndpoint: 'https://s3.example.com', bucket: My_Images" + bucketKeys + "}"), "dvcr.storage.objectStorage.s3.bucket in body should match"},
		{"authorities that are none", bucket("{" + bucketAddress + bucketKeys + ", caBundle: none}"), "dvcr.storage.objectStorage.s3.caBundle in body should match"},
		{"no migration at all", "liveMigration: {maxMigrationsPerCluster: 0}", "liveMigration.maxMigrationsPerCluster in body should be greater than or equal to 1"},
		{"no migration from a node", "liveMigration: {maxMigrationsPerNode: 0}", "liveMigration.maxMigrationsPerNode in body should be greater than or equal to 1"},
		{"bandwidth without a unit", "liveMigration: {bandwidthPerMigration: '640'}", "liveMigration.bandwidthPerMigration in body should match"},
		{"bandwidth that is a number", "liveMigration: {bandwidthPerMigration: 0}", "liveMigration.bandwidthPerMigration in body must be of type string"},
		{"time that is over at once", "liveMigration: {completionTimeoutPerGiB: 0}", "liveMigration.completionTimeoutPerGiB in body should be greater than or equal to 1"},
		{"patience of a year", "liveMigration: {progressTimeout: 31536000}", "liveMigration.progressTimeout in body should be less than or equal to 86400"},
		{"audit by a word", "audit: {enabled: 'yes'}", "audit.enabled in body must be of type boolean"},
		{"audit of something", "audit: {level: Request}", "audit.level in body is a forbidden property"},
		{"unknown limit", "liveMigration: {bandwidth: 1Gi}", "liveMigration.bandwidth in body is a forbidden property"},
		{"unknown feature gate", "featureGates: [GPU]", "featureGates[0] in body should be one of [HotplugCPUWithLiveMigration HotplugMemoryWithLiveMigration]"},
		{"feature gate given twice", "featureGates: [HotplugCPUWithLiveMigration, HotplugCPUWithLiveMigration]", "featureGates in body shouldn't contain duplicates"},
		{"issuer that is a number", "https: {certManager: {clusterIssuerName: 1}}", "https.certManager.clusterIssuerName in body must be of type string"},
		{"unknown key of https", "https: {customCertificate: {name: x}}", "https.customCertificate.name in body is a forbidden property"},
		{"size with a wrong unit", "dvcr: {storage: {persistentVolumeClaim: {size: 60GB}}}", "dvcr.storage.persistentVolumeClaim.size in body should match"},
		{"size that is a number", "dvcr: {storage: {persistentVolumeClaim: {size: 60}}}", "dvcr.storage.persistentVolumeClaim.size in body must be of type string"},
		{"name of a class", "virtualDisks: {defaultStorageClassName: Fast_One}", "virtualDisks.defaultStorageClassName in body should match"},
		{"selector that allows nothing", "virtualDisks: {allowedStorageClassSelector: {matchNames: []}}", "virtualDisks.allowedStorageClassSelector.matchNames in body should have at least 1 items"},
		{"empty selector", "virtualImages: {allowedStorageClassSelector: {}}", "virtualImages.allowedStorageClassSelector.matchNames in body is required"},
		{"yes and no", "highAvailability: maybe", "highAvailability in body must be of type boolean"},
		{"name of an ingress class", "ingressClass: Public!", "ingressClass in body should match"},
		{"mode of https", "https: {mode: Enabled}", "https.mode in body should be one of [Disabled CertManager CustomCertificate OnlyInURI]"},
		{"log level", "logLevel: trace", "logLevel in body should be one of [debug info warn error]"},
		{"log format", "logFormat: xml", "logFormat in body should be one of [text json]"},
		{"network without a length", "imageSources: {allowedNetworks: [10.0.0.1]}", "imageSources.allowedNetworks[0] in body should match"},
		{"network given by name", "imageSources: {allowedNetworks: [mirror.example.com]}", "imageSources.allowedNetworks[0] in body should match"},
		{"length beyond version 6", "imageSources: {allowedNetworks: ['fd00::/129']}", "imageSources.allowedNetworks[0] in body should match"},
		{"network given twice", "imageSources: {allowedNetworks: [10.0.0.0/8, 10.0.0.0/8]}", "imageSources.allowedNetworks in body shouldn't contain duplicates"},
		{"schedule by name", collected("@hourly"), "dvcr.gc.schedule in body should match"},
		{"schedule of four fields", collected("0 * * *"), "dvcr.gc.schedule in body should match"},
		{"schedule of six fields", collected("0 0 * * * *"), "dvcr.gc.schedule in body should match"},
		{"minute that can't be", collected("60 * * * *"), "dvcr.gc.schedule in body should match"},
		{"hour that can't be", collected("0 24 * * *"), "dvcr.gc.schedule in body should match"},
		{"day that can't be", collected("0 0 0 * *"), "dvcr.gc.schedule in body should match"},
		{"month that can't be", collected("0 0 1 13 *"), "dvcr.gc.schedule in body should match"},
		{"day of the week that can't be", collected("0 0 * * 7"), "dvcr.gc.schedule in body should match"},
		{"step of nothing", collected("*/0 * * * *"), "dvcr.gc.schedule in body should match"},
		{"emulation", "softwareEmulation: 'yes'", "softwareEmulation in body must be of type boolean"},
	}
	schema := settingsSchema(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			problems := Validate(schema, parse(t, required, test.settings))
			if len(problems) != 1 || !strings.Contains(problems[0], test.want) {
				t.Errorf("problems = %q, want one that says %q", problems, test.want)
			}
		})
	}
}

func TestSettingsThatAreMissing(t *testing.T) {
	problems := strings.Join(Validate(settingsSchema(t), map[string]any{}), "\n")
	for _, want := range []string{"virtualMachineCIDRs in body is required", "dvcr in body is required"} {
		if !strings.Contains(problems, want) {
			t.Errorf("problems = %q, want one that says %q", problems, want)
		}
	}
}

// The cases that Deckhouse's own tools read say the same as the tables here.
func TestCasesForDeckhouse(t *testing.T) {
	var cases struct {
		Positive, Negative struct {
			ConfigValues []map[string]any `json:"configValues"`
			Values       []map[string]any `json:"values"`
		}
	}
	if err := readYAML("openapi/openapi-case-tests.yaml", &cases); err != nil {
		t.Fatal(err)
	}
	values, err := ModuleValues()
	if err != nil {
		t.Fatal(err)
	}
	schemas := []struct {
		schema         *spec.Schema
		right, mistake []map[string]any
	}{
		{settingsSchema(t), cases.Positive.ConfigValues, cases.Negative.ConfigValues},
		{values, cases.Positive.Values, cases.Negative.Values},
	}
	for _, group := range schemas {
		if len(group.right) == 0 || len(group.mistake) == 0 {
			t.Error("a kind of values has no case")
		}
		for _, settings := range group.right {
			for _, problem := range Validate(group.schema, settings) {
				t.Errorf("%v: %s", settings, problem)
			}
		}
		for _, settings := range group.mistake {
			if len(Validate(group.schema, settings)) == 0 {
				t.Errorf("%v was accepted", settings)
			}
		}
	}
}

// Whatever the tests of the chart are given is what Deckhouse would let through.
func TestMatrixFollowsTheSchema(t *testing.T) {
	schema, err := ModuleValues()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range matrix {
		t.Run(name, func(t *testing.T) {
			for _, problem := range Validate(schema, toJSON(t, c.Values()["virtualization"].(map[string]any))) {
				t.Error(problem)
			}
		})
	}
}

func TestEverySettingIsExplained(t *testing.T) {
	schema := settingsSchema(t)
	russian, err := readSchema("openapi/doc-ru-config-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	explained(t, "", schema, russian)
}

// explained checks a setting and those below it: a description in both languages, and an example where
// there is nothing below.
func explained(t *testing.T, path string, english, russian *spec.Schema) {
	t.Helper()
	for name, property := range english.Properties {
		path := strings.TrimPrefix(path+"."+name, ".")
		twin, found := russian.Properties[name]
		if property.Description == "" || !found || twin.Description == "" {
			t.Errorf("%s has no description in both languages", path)
		}
		leaf := len(property.Properties) == 0
		if _, example := property.Extensions["x-examples"]; leaf && !example && property.Enum == nil {
			t.Errorf("%s has no example", path)
		}
		explained(t, path, &property, &twin)
	}
	for name := range russian.Properties {
		if _, found := english.Properties[name]; !found {
			t.Errorf("%s.%s is explained in Russian but does not exist", path, name)
		}
	}
}

func settingsSchema(t *testing.T) *spec.Schema {
	t.Helper()
	schema, err := Settings()
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// parse reads settings; the keys of later texts replace those of earlier ones.
func parse(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	merged := map[string]any{}
	for _, text := range texts {
		content, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(content, &merged); err != nil {
			t.Fatal(err)
		}
	}
	return merged
}
