// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	patchablevalues "github.com/deckhouse/module-sdk/pkg/patchable-values"
	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

// ask gives a check settings as YAML.
func ask(t *testing.T, check settingscheck.Check, cluster hooktest.Cluster, settings string) settingscheck.Result {
	t.Helper()
	parsed := map[string]any{}
	if err := yaml.Unmarshal([]byte(settings), &parsed); err != nil {
		t.Fatal(err)
	}
	values, err := patchablevalues.NewPatchableValues(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return check(t.Context(), settingscheck.Input{Settings: values, DC: cluster})
}

// question is one set of settings and what is to be said about it; nothing if it is right.
type question struct {
	name     string
	cluster  hooktest.Cluster
	settings string
	want     string
}

func run(t *testing.T, check settingscheck.Check, questions []question) {
	t.Helper()
	for _, each := range questions {
		t.Run(each.name, func(t *testing.T) {
			got := ask(t, check, each.cluster, each.settings)
			if got.Valid != (each.want == "") || (each.want != "" && !strings.Contains(got.Message, each.want)) {
				t.Errorf("got %+v, want %q", got, each.want)
			}
		})
	}
}

func broken(resource string) hooktest.Cluster {
	return hooktest.Cluster{Problems: map[string]error{resource: errors.New("broken")}}
}

func TestAllSaysEverythingAtOnce(t *testing.T) {
	refuse := func(text string) settingscheck.Check {
		return func(context.Context, settingscheck.Input) settingscheck.Result { return settingscheck.Reject(text) }
	}
	allow := func(context.Context, settingscheck.Input) settingscheck.Result {
		return settingscheck.Allow("mind the gap")
	}
	got := ask(t, All(refuse("one"), allow, refuse("two"), refuse("one")), hooktest.Cluster{}, "{}")
	if got.Valid || got.Message != "one; two" {
		t.Errorf("got %+v", got)
	}
	got = ask(t, All(allow, allow), hooktest.Cluster{}, "{}")
	if !got.Valid || len(got.Warnings) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestStorageClasses(t *testing.T) {
	const fast, slow = "metadata: {name: fast}", "metadata: {name: slow}"
	two := hooktest.Cluster{Objects: map[string][]string{"storageclasses": {slow, fast}}}
	run(t, StorageClasses, []question{
		{name: "nothing is said", settings: "{}", cluster: hooktest.Cluster{NoClient: errors.New("not asked")}},
		{name: "all are there", cluster: two, settings: "{virtualDisks: {defaultStorageClassName: fast, allowedStorageClassSelector: {matchNames: [fast, slow]}}, virtualImages: {defaultStorageClassName: slow}}"},
		{
			name: "default of disks is missing", cluster: two, settings: "virtualDisks: {defaultStorageClassName: quick}",
			want: "virtualDisks.defaultStorageClassName: there is no StorageClass quick: create it first, or choose one of fast, slow",
		},
		{
			name: "one that is allowed to images is missing", cluster: two, settings: "virtualImages: {allowedStorageClassSelector: {matchNames: [fast, quick]}}",
			want: "virtualImages.allowedStorageClassSelector.matchNames: there is no StorageClass quick",
		},
		{
			name: "default is not allowed", cluster: two, settings: "virtualDisks: {defaultStorageClassName: slow, allowedStorageClassSelector: {matchNames: [fast]}}",
			want: "virtualDisks.defaultStorageClassName: slow is not among those of allowedStorageClassSelector.matchNames: add it there, or choose one of fast",
		},
		{
			name: "several mistakes", cluster: two, settings: "{virtualDisks: {defaultStorageClassName: a}, virtualImages: {defaultStorageClassName: b}}",
			want: "or choose one of fast, slow; virtualImages.defaultStorageClassName: there is no StorageClass b",
		},
		{name: "a cluster without storage", settings: "virtualDisks: {defaultStorageClassName: fast}", want: "there is no StorageClass fast, nor any other: create it first"},
		{name: "unknown", cluster: broken("storageclasses"), settings: "virtualDisks: {defaultStorageClassName: fast}", want: "try again: broken"},
		{name: "no cluster", cluster: hooktest.Cluster{NoClient: errors.New("no cluster")}, settings: "virtualDisks: {defaultStorageClassName: fast}", want: "try again: no cluster"},
	})
}

func TestCertificate(t *testing.T) {
	const (
		good     = "{metadata: {name: uploads-tls, namespace: d8-system}, data: {tls.crt: Q1JU, tls.key: S0VZ}}"
		keyless  = "{metadata: {name: keyless, namespace: d8-system}, data: {tls.crt: Q1JU}}"
		elsehere = "{metadata: {name: elsewhere, namespace: default}, data: {tls.crt: Q1JU, tls.key: S0VZ}}"
	)
	secrets := hooktest.Cluster{Objects: map[string][]string{"secrets": {good, keyless, elsehere}}}
	custom := func(name string) string {
		return "https: {mode: CustomCertificate, customCertificate: {secretName: " + name + "}}"
	}
	run(t, Certificate, []question{
		{name: "nothing is said", settings: "{}", cluster: hooktest.Cluster{NoClient: errors.New("not asked")}},
		{name: "another mode", settings: "https: {mode: CertManager, customCertificate: {secretName: none}}", cluster: secrets},
		{name: "it is there", settings: custom("uploads-tls"), cluster: secrets},
		{name: "no name", settings: "https: {mode: CustomCertificate}", cluster: secrets, want: "https.customCertificate.secretName: is required where https.mode is CustomCertificate"},
		{name: "not there", settings: custom("none"), cluster: secrets, want: "there is no Secret none in the namespace d8-system: create it first"},
		{name: "in another namespace", settings: custom("elsewhere"), cluster: secrets, want: "there is no Secret elsewhere in the namespace d8-system"},
		{name: "no key", settings: custom("keyless"), cluster: secrets, want: "the Secret keyless in the namespace d8-system has no tls.key"},
		{name: "unknown", settings: custom("uploads-tls"), cluster: broken("secrets"), want: "try again: broken"},
		{name: "no cluster", settings: custom("uploads-tls"), cluster: hooktest.Cluster{NoClient: errors.New("no cluster")}, want: "try again: no cluster"},
	})
}

const (
	volumeSettings = "dvcr: {storage: {type: PersistentVolumeClaim, persistentVolumeClaim: {size: 20Gi, storageClassName: fast}}}"
	bucketSettings = "dvcr: {storage: {type: ObjectStorage, objectStorage: {type: S3, s3: {regionEndpoint: 'https://s3.example.com', bucket: images}}}}"

	claim     = "{metadata: {name: dvcr, namespace: d8-virtualization}, spec: {storageClassName: fast, resources: {requests: {storage: 20Gi}}}}"
	growing   = "{metadata: {name: fast}, allowVolumeExpansion: true}"
	fixed     = "{metadata: {name: fast}}"
	cvi       = "{metadata: {name: debian}}"
	vi        = "{metadata: {name: alpine, namespace: team}, spec: {storage: ContainerRegistry}}"
	volumeVI  = "{metadata: {name: heavy, namespace: team}, spec: {storage: PersistentVolumeClaim}}"
	reachable = "{metadata: {name: dvcr-object-storage, namespace: d8-virtualization}, data: {regionEndpoint: aHR0cHM6Ly9zMy5leGFtcGxlLmNvbQ==, bucket: aW1hZ2Vz}}"
)

func volumeOf(size string) string {
	return "dvcr: {storage: {persistentVolumeClaim: {size: " + size + "}}}"
}

func TestRegistry(t *testing.T) {
	objects := func(class string, more map[string][]string) hooktest.Cluster {
		all := map[string][]string{"persistentvolumeclaims": {claim}, "storageclasses": {class}}
		for resource, found := range more {
			all[resource] = found
		}
		return hooktest.Cluster{Objects: all}
	}
	full := objects(growing, map[string][]string{"clustervirtualimages": {cvi}, "virtualimages": {vi, volumeVI}})
	inBucket := hooktest.Cluster{Objects: map[string][]string{"secrets": {reachable}, "virtualimages": {vi}, "storageclasses": {growing}}}
	run(t, Registry, []question{
		{name: "as it is", cluster: full, settings: volumeSettings},
		{name: "grows", cluster: full, settings: volumeOf("30Gi")},
		{name: "shrinks", cluster: full, settings: volumeOf("10Gi"),
			want: "dvcr.storage.persistentVolumeClaim.size: the registry's volume has 20Gi and can't shrink to 10Gi: set 20Gi or more"},
		{name: "the same in another unit", cluster: full, settings: volumeOf("20480Mi")},
		{name: "can't grow", cluster: objects(fixed, nil), settings: volumeOf("30Gi"), want: "its StorageClass fast lets no volume grow: set 20Gi"},
		{name: "another class", cluster: full, settings: strings.Replace(volumeSettings, "fast", "slow", 1),
			want: "dvcr.storage.persistentVolumeClaim.storageClassName: the registry's volume is of the class fast, which can't be changed to slow while it exists: set it to fast"},
		{name: "new, with a class", settings: volumeSettings, cluster: hooktest.Cluster{Objects: map[string][]string{"storageclasses": {growing}}}},
		{name: "new, without its class", settings: volumeSettings,
			want: "dvcr.storage.persistentVolumeClaim.storageClassName: there is no StorageClass fast"},
		{name: "new, the cluster's class", settings: volumeOf("1Gi")},
		{name: "to a bucket, with images", cluster: full, settings: bucketSettings,
			want: "dvcr.storage: the registry holds 2 images (ClusterVirtualImage debian is one), and they are not moved to another storage"},
		{name: "to a bucket, without images", cluster: objects(growing, map[string][]string{"virtualimages": {volumeVI}}), settings: bucketSettings},
		{name: "bucket as it is", cluster: inBucket, settings: bucketSettings},
		{name: "to another bucket", cluster: inBucket, settings: strings.Replace(bucketSettings, "bucket: images", "bucket: others", 1),
			want: "the registry holds 1 images (VirtualImage team/alpine is one)"},
		{name: "from a bucket to a volume", cluster: inBucket, settings: volumeSettings, want: "dvcr.storage: the registry holds 1 images"},
		{name: "new, in a bucket", settings: bucketSettings},
		{name: "no volume", settings: "dvcr: {storage: {}}", want: "dvcr.storage.persistentVolumeClaim: is required where dvcr.storage.type is PersistentVolumeClaim"},
		{name: "no bucket", settings: "dvcr: {storage: {type: ObjectStorage, persistentVolumeClaim: {size: 1Gi}}}",
			want: "dvcr.storage.objectStorage: is required where dvcr.storage.type is ObjectStorage"},
		{name: "no cluster", cluster: hooktest.Cluster{NoClient: errors.New("no cluster")}, settings: volumeSettings, want: "try again: no cluster"},
		{name: "claim unknown", cluster: broken("persistentvolumeclaims"), settings: volumeSettings, want: "try again: broken"},
		{name: "bucket unknown", cluster: broken("secrets"), settings: volumeSettings, want: "try again: broken"},
		{name: "classes unknown", cluster: broken("storageclasses"), settings: volumeSettings, want: "storageclasses can't be read from the cluster now, try again: broken"},
		{name: "from a bucket to a volume without its class", settings: volumeSettings,
			cluster: hooktest.Cluster{Objects: map[string][]string{"secrets": {reachable}, "virtualimages": {vi}}},
			want:    "the registry holds 1 images (VirtualImage team/alpine is one), and they are not moved to another storage: keep the storage, or delete the images first; dvcr.storage.persistentVolumeClaim.storageClassName: there is no StorageClass fast"},
	})
}

// Before the module was enabled nobody knows its kinds.
func TestRegistryWithoutTheModulesKinds(t *testing.T) {
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "virtualimages"}, "")
	cluster := hooktest.Cluster{
		Objects:  map[string][]string{"persistentvolumeclaims": {claim}, "storageclasses": {growing}},
		Problems: map[string]error{"virtualimages": missing, "clustervirtualimages": missing},
	}
	if got := ask(t, Registry, cluster, bucketSettings); !got.Valid {
		t.Errorf("got %+v", got)
	}
	cluster.Problems["virtualimages"] = errors.New("broken")
	if got := ask(t, Registry, cluster, bucketSettings); got.Valid || !strings.Contains(got.Message, "try again: broken") {
		t.Errorf("got %+v", got)
	}
}
