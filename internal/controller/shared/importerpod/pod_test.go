// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importerpod

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer"
	"github.com/deckhouse/virtualization/internal/trust"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const reference = "dvcr.example.org/vi/team/debian:0dfe9d4c"

var subject = token.Subject{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: "0dfe9d4c"}

func order(source Source, changes ...func(*Order)) Order {
	o := Order{
		Name: "d8v-vi-importer-0dfe9d4c", Namespace: "d8-virtualization", Hash: "abcd", Source: source, Subject: subject,
		Target:     Target{DVCR: &DVCR{Reference: reference}},
		Credential: Credential{Token: "secret words", ExpiresAt: now.Add(time.Hour)},
		Settings: Settings{
			ImporterImage: "registry.example.org/importer@sha256:00", CABundle: trust.Static([]byte("module CA")),
			ReportURL: "https://controller.example.org/reports", Namespace: "d8-virtualization",
		},
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

func httpSource() Source { return Source{HTTP: &HTTP{URL: "https://example.org/disk.qcow2"}} }

func uploadSource() Source {
	return Source{Upload: &Upload{Name: "d8v-upload-1", Token: "open-sesame", ExpiresAt: now.Add(24 * time.Hour), Checksums: []string{"md5:cd"}}}
}

func TestPodIsRestricted(t *testing.T) {
	pod := Pod(order(httpSource()))
	for key, want := range map[string]string{
		"heritage": "deckhouse", "module": "virtualization", "app": "importer",
		"resource-quota-overrides.deckhouse.io/ignore": "true",
	} {
		if pod.Labels[key] != want {
			t.Errorf("label %s: %q", key, pod.Labels[key])
		}
	}
	spec := pod.Spec
	if *spec.AutomountServiceAccountToken || *spec.EnableServiceLinks || spec.RestartPolicy != "OnFailure" || spec.HostNetwork {
		t.Errorf("pod: %+v", spec)
	}
	if !*spec.SecurityContext.RunAsNonRoot || *spec.SecurityContext.RunAsUser != 64535 || spec.SecurityContext.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("pod security: %+v", spec.SecurityContext)
	}
	security := spec.Containers[0].SecurityContext
	if *security.AllowPrivilegeEscalation || !*security.ReadOnlyRootFilesystem || security.Capabilities.Drop[0] != "ALL" {
		t.Errorf("container security: %+v", security)
	}
	if len(spec.Containers[0].Resources.Requests) != 2 || len(spec.Containers[0].Resources.Limits) != 2 {
		t.Errorf("resources: %+v", spec.Containers[0].Resources)
	}
	if env := spec.Containers[0].Env; len(env) != 1 || env[0].Name != "GOMEMLIMIT" || env[0].Value != "384MiB" {
		t.Errorf("environment: %+v", env)
	}
	if volume := spec.Volumes[0].Secret; volume.SecretName != pod.Name || *volume.DefaultMode != 0o440 {
		t.Errorf("volume: %+v", volume)
	}
	mounts := []string{}
	for _, mount := range spec.Containers[0].VolumeMounts {
		mounts = append(mounts, mount.Name+" "+mount.MountPath)
	}
	if got := strings.Join(mounts, ", "); got != "importer /etc/importer, state /var/lib/importer, tmp /tmp" {
		t.Errorf("mounts: %s", got)
	}
}

// A volume may be on a node that is kept for machines.
func TestPodFollowsItsVolume(t *testing.T) {
	kept := &corev1.Taint{Key: "dedicated.deckhouse.io", Value: "machines", Effect: "NoExecute"}
	bears := func(o Order) bool {
		return slices.ContainsFunc(Pod(o).Spec.Tolerations, func(each corev1.Toleration) bool { return each.ToleratesTaint(kept) })
	}
	toVolume := func(o *Order) { o.Target = Target{Volume: &Volume{ClaimName: "data"}, Size: 1 << 30} }
	if !bears(order(httpSource(), toVolume)) {
		t.Error("a volume on a node that is kept for machines is never filled")
	}
	if !bears(order(Source{Volume: &Volume{ClaimName: "data"}})) {
		t.Error("a volume on a node that is kept for machines is never read")
	}
	if bears(order(httpSource())) {
		t.Error("an import to the registry takes room that is kept for others")
	}
}

// A volume may be reachable only from a node that is kept by other taints than usual.
func TestPodRunsWhereItsVolumesAre(t *testing.T) {
	local, gpu := corev1.Toleration{Key: "local", Operator: "Equal"}, corev1.Toleration{Key: "gpu", Operator: "Equal"}
	source := Source{Volume: &Volume{ClaimName: "from", Tolerations: []corev1.Toleration{local}}}
	pod := Pod(order(source, func(o *Order) {
		o.Target = Target{Volume: &Volume{ClaimName: "to", Tolerations: []corev1.Toleration{gpu}}}
	}))
	if got := pod.Spec.Tolerations; !slices.Contains(got, local) || !slices.Contains(got, gpu) {
		t.Errorf("got %v", got)
	}
}

func TestPodTellsWhomItWorksFor(t *testing.T) {
	pod := Pod(order(httpSource(), func(o *Order) { o.Labels = map[string]string{"extra": "label"} }))
	if pod.Namespace != "d8-virtualization" || pod.Name != "d8v-vi-importer-0dfe9d4c" || pod.Labels["extra"] != "label" {
		t.Errorf("pod: %+v", pod.ObjectMeta)
	}
	if pod.Annotations["virtualization.deckhouse.io/source-hash"] != "abcd" ||
		pod.Annotations["virtualization.deckhouse.io/token-expires-at"] != "2026-11-22T13:00:00Z" {
		t.Errorf("annotations: %v", pod.Annotations)
	}
	if owner, ok := Owner(pod); !ok || owner != subject {
		t.Errorf("owner: %+v, %t", owner, ok)
	}
	other := subject
	other.UID = "other"
	if !IsFor(pod, subject) || IsFor(pod, other) {
		t.Error("the pod is taken for somebody else's")
	}
	if _, ok := Owner(&corev1.Pod{}); ok || IsFor(&corev1.Pod{}, subject) {
		t.Error("a foreign pod is taken for an importer")
	}
	truth := true
	old := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: "0dfe9d4c", Controller: &truth}}}}
	if !IsFor(old, subject) || IsFor(old, other) {
		t.Error("a pod of an earlier version is not recognised")
	}
}

func TestEnqueueOwner(t *testing.T) {
	for kind, want := range map[string]int{"VirtualImage": 1, "VirtualDisk": 0} {
		queue := &queue{}
		EnqueueOwner(kind).Create(t.Context(), event.CreateEvent{Object: Pod(order(httpSource()))}, queue)
		EnqueueOwner(kind).Create(t.Context(), event.CreateEvent{Object: &corev1.Pod{}}, queue)
		if len(queue.added) != want {
			t.Errorf("%s: %v", kind, queue.added)
		}
		if want == 1 && queue.added[0].String() != "team/debian" {
			t.Errorf("request: %s", queue.added[0])
		}
	}
}

func TestPodPullsItsImage(t *testing.T) {
	withSecret := func(o *Order) { o.Settings.PullSecret = "module-registry" }
	if got := Pod(order(httpSource(), withSecret)).Spec.ImagePullSecrets; len(got) != 1 || got[0].Name != "module-registry" {
		t.Errorf("pull secrets: %v", got)
	}
	if got := Pod(order(httpSource(), withSecret, func(o *Order) { o.Namespace = "team" })).Spec.ImagePullSecrets; len(got) != 0 {
		t.Errorf("a Secret that is not in the namespace: %v", got)
	}
}

func TestRenewalTouchesOnlyTheAnnotations(t *testing.T) {
	pod := Pod(order(httpSource()))
	pod.UID = "pod-uid"
	settings := Settings{CABundle: trust.Static([]byte("module CA"))}
	got := Renewal(pod, settings, now)
	if got.Kind != "Pod" || got.Namespace != pod.Namespace || got.Name != pod.Name || got.UID != "pod-uid" {
		t.Errorf("object: %+v", got)
	}
	want := map[string]string{
		"virtualization.deckhouse.io/token-expires-at": "2026-11-22T12:00:00Z", "virtualization.deckhouse.io/authorities": "ddf0d8c670b49995",
	}
	if !maps.Equal(got.Annotations, want) || got.Labels != nil {
		t.Errorf("annotations %v, labels %v", got.Annotations, got.Labels)
	}
}

// While the module's authority is replaced, every running Pod is told once.
func TestPodsHearOfNewAuthorities(t *testing.T) {
	bundle := "the old one"
	settings := Settings{CABundle: func() []byte { return []byte(bundle) }}
	pod := Pod(order(httpSource(), func(o *Order) { o.Settings = settings }))
	if Outdated(pod, settings) {
		t.Error("a new pod does not know the authorities")
	}
	frozen := settings.Frozen()
	bundle = "the old one and the next one"
	if !Outdated(pod, settings) || Outdated(pod, frozen) {
		t.Error("the pod does not hear of the next authority")
	}
	maps.Copy(pod.Annotations, Renewal(pod, settings, now).Annotations)
	if Outdated(pod, settings) {
		t.Error("the pod is told again and again")
	}
	delete(pod.Annotations, "virtualization.deckhouse.io/authorities")
	if !Outdated(pod, settings) {
		t.Error("a pod that an earlier version made is never told")
	}
}

// common are the arguments that every importer gets last.
var common = []string{
	"--registry-ca-file=/etc/importer/ca.crt", "--token-file=/etc/importer/token", "--report-url=https://controller.example.org/reports",
	"--state-dir=/var/lib/importer", "--checkpoint-file=/etc/importer/checkpoint",
}

// Importers log the way the controller does.
func TestLogArgs(t *testing.T) {
	pod := Pod(order(httpSource(), func(o *Order) { o.Settings.LogArgs = []string{"--log-level=debug", "--log-format=json"} }))
	args := pod.Spec.Containers[0].Args
	if got := args[len(args)-2:]; !slices.Equal(got, []string{"--log-level=debug", "--log-format=json"}) {
		t.Errorf("args end with %v", got)
	}
}

func TestArgs(t *testing.T) {
	toVolume := func(volume Volume) func(*Order) {
		return func(o *Order) { o.Target = Target{Volume: &volume, Size: 4 << 30, Stage: "dvcr.example.org/vd/x:1"} }
	}
	refuse := func(o *Order) { o.Settings.RefuseNetworks = []string{"10.96.0.0/16", "127.0.0.0/8"} }
	for _, tc := range []struct {
		name  string
		order Order
		want  []string
	}{
		{"http", order(Source{HTTP: &HTTP{URL: "https://example.org/a", CABundle: []byte("CA"), Checksums: []string{"md5:cd", "sha256:ab"}}}, refuse), []string{
			"import", "--source-url=https://example.org/a", "--source-ca-file=/etc/importer/source-ca.crt",
			"--checksum=md5:cd", "--checksum=sha256:ab", "--refuse-network=10.96.0.0/16", "--refuse-network=127.0.0.0/8",
			"--destination=" + reference,
		}},
		{"registry", order(Source{Registry: &Registry{Image: "example.org/disks/debian:13"}}), []string{
			"import", "--source-image=docker://example.org/disks/debian:13", "--destination=" + reference,
		}},
		{"registry with credentials", order(Source{Registry: &Registry{Image: "docker://example.org/a", CABundle: []byte("CA"), DockerConfig: []byte("{}")}}), []string{
			"import", "--source-image=docker://example.org/a", "--source-auth-file=/etc/importer/auth.json",
			"--source-ca-file=/etc/importer/source-ca.crt", "--destination=" + reference,
		}},
		{"copy inside DVCR", order(Source{DVCR: &DVCR{Reference: "dvcr.example.org/cvi/a:1"}}, refuse), []string{
			"import", "--source-dvcr=dvcr.example.org/cvi/a:1", "--destination=" + reference,
		}},
		{"block volume", order(Source{Volume: &Volume{ClaimName: "c", Block: true}}), []string{
			"import", "--source-volume=/dev/source", "--destination=" + reference,
		}},
		{"file volume to block volume", order(Source{Volume: &Volume{ClaimName: "c"}}, toVolume(Volume{ClaimName: "t", Block: true})), []string{
			"import", "--source-volume=/source", "--target-volume=/dev/target", "--target-size=4294967296", "--stage=dvcr.example.org/vd/x:1",
		}},
		{"upload", order(uploadSource()), []string{
			"upload", "--listen=:8080", "--upload-token-file=/etc/importer/upload-token", "--upload-expires=2026-11-23T12:00:00Z",
			"--checksum=md5:cd", "--destination=" + reference,
		}},
		{"inspect", order(httpSource(), func(o *Order) { o.Inspect = true }), []string{
			"inspect", "--source-url=https://example.org/disk.qcow2",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			config := importer.Config{Verb: tc.want[0]}
			flags := pflag.NewFlagSet(tc.name, pflag.ContinueOnError)
			config.AddFlags(flags)
			if err := flags.Parse(Pod(tc.order).Spec.Containers[0].Args[1:]); err != nil {
				t.Errorf("the importer does not know it: %v", err)
			}
			want := append(slices.Clone(tc.want), common...)
			if got := Pod(tc.order).Spec.Containers[0].Args; !slices.Equal(got, want) {
				t.Errorf("arguments:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestVolumesOfThePod(t *testing.T) {
	spec := Pod(order(Source{Volume: &Volume{ClaimName: "from"}}, func(o *Order) {
		o.Target = Target{Volume: &Volume{ClaimName: "to", Block: true}, Size: 1}
	})).Spec
	claims := map[string]string{}
	for _, volume := range spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			claims[volume.Name] = volume.PersistentVolumeClaim.ClaimName
		}
	}
	if len(claims) != 2 || claims["source"] != "from" || claims["target"] != "to" {
		t.Errorf("claims: %v", claims)
	}
	container := spec.Containers[0]
	if len(container.VolumeDevices) != 1 || container.VolumeDevices[0].Name != "target" || container.VolumeDevices[0].DevicePath != "/dev/target" {
		t.Errorf("devices: %+v", container.VolumeDevices)
	}
	if last := container.VolumeMounts[3]; last.Name != "source" || last.MountPath != "/source" || !last.ReadOnly {
		t.Errorf("mount: %+v", last)
	}
	// The guest's process must be able to open what is left there.
	if *spec.SecurityContext.RunAsUser != 107 || *spec.SecurityContext.FSGroup != 107 {
		t.Errorf("security: %+v", spec.SecurityContext)
	}
}

func TestSecret(t *testing.T) {
	keys := func(o Order) string {
		var out []string
		for key, value := range Secret(o).Data {
			out = append(out, key+"="+string(value))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	const always = "ca.crt=module CA, "
	for _, tc := range []struct {
		name  string
		order Order
		want  string
	}{
		{"plain", order(httpSource()), always + "token=secret words"},
		{"CA", order(Source{HTTP: &HTTP{CABundle: []byte("CA")}}), always + "source-ca.crt=CA, token=secret words"},
		{"registry", order(Source{Registry: &Registry{CABundle: []byte("CA"), DockerConfig: []byte("{}")}}),
			"auth.json={}, " + always + "source-ca.crt=CA, token=secret words"},
		{"upload", order(uploadSource()), always + "token=secret words, upload-token=open-sesame"},
		{"resumed", order(httpSource(), func(o *Order) { o.Checkpoint = []byte("here") }), always + "checkpoint=here, token=secret words"},
	} {
		if got := keys(tc.order); got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
	if secret := Secret(order(httpSource())); secret.Name != "d8v-vi-importer-0dfe9d4c" || secret.Namespace != "d8-virtualization" || secret.Type != "Opaque" {
		t.Errorf("secret: %+v", secret)
	}
}

func TestChecksums(t *testing.T) {
	got := Checksums(&v1alpha2.Checksum{SHA512: "e", SHA1: "b", MD5: "a", Streebog256: "f", SHA256: "c", Streebog512: "g"})
	if strings.Join(got, " ") != "md5:a sha1:b sha256:c sha512:e streebog256:f streebog512:g" || Checksums(nil) != nil {
		t.Errorf("checksums: %q", got)
	}
}
