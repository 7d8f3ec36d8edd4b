// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package imageimport

import (
	"sort"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	containerName = "importer"
	mountPath     = "/etc/importer"
	volumeName    = "importer"

	keyToken    = "token"
	keyCA       = "ca.crt"
	keySourceCA = "source-ca.crt"

	// runAs is the user and group of all restricted workloads of the module.
	runAs = 64535
	// graceSeconds is enough for the importer to abandon its upload.
	graceSeconds = 10
)

const (
	// annotationSource is on the Pod and tells which source it imports.
	annotationSource = "virtualization.deckhouse.io/source-hash"
	// labelIgnoreQuota keeps the platform's helpers out of a project's quota.
	labelIgnoreQuota = "resource-quota-overrides.deckhouse.io/ignore"
)

// buildSecret holds what the importer must not get by its arguments.
func buildSecret(image Image, settings Settings, credential Credential) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: childMeta(image, settings),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{keyToken: []byte(credential.Token), keyCA: settings.CABundle},
	}
	if http := image.Source.HTTP; http != nil && len(http.CABundle) > 0 {
		secret.Data[keySourceCA] = http.CABundle
	}
	return secret
}

// buildExpiry is the part of the Pod that changes when its token is renewed.
func buildExpiry(pod *corev1.Pod, credential Credential) *metav1.PartialObjectMetadata {
	out := shared.CoreMetadata("Pod")
	// The uid keeps a Pod that is gone by now from being made anew out of this.
	out.SetNamespace(pod.Namespace)
	out.SetName(pod.Name)
	out.SetUID(pod.UID)
	out.SetAnnotations(map[string]string{shared.AnnotationTokenExpiry: shared.FormatTokenExpiry(credential.ExpiresAt)})
	return out
}

// buildPod is the importer of the image's current source.
func buildPod(image Image, settings Settings, credential Credential) *corev1.Pod {
	meta := childMeta(image, settings)
	meta.Labels[labelIgnoreQuota] = "true"
	meta.Annotations = map[string]string{
		annotationSource:             image.Source.Hash(),
		shared.AnnotationTokenExpiry: shared.FormatTokenExpiry(credential.ExpiresAt),
	}
	return &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyOnFailure,
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To(int64(graceSeconds)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   ptr.To(true),
				RunAsUser:      ptr.To(int64(runAs)),
				RunAsGroup:     ptr.To(int64(runAs)),
				FSGroup:        ptr.To(int64(runAs)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{buildContainer(image, settings)},
			Volumes: []corev1.Volume{{
				Name: volumeName,
				VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
					SecretName: image.ChildName(), DefaultMode: ptr.To(int32(0o440)),
				}},
			}},
		},
	}
}

func buildContainer(image Image, settings Settings) corev1.Container {
	return corev1.Container{
		Name:                     containerName,
		Image:                    settings.ImporterImage,
		ImagePullPolicy:          corev1.PullIfNotPresent,
		Args:                     importerArgs(image, settings),
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		// The importer streams: what it needs does not grow with the image.
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
			Limits: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("512Mi"),
			},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: volumeName, MountPath: mountPath, ReadOnly: true}},
	}
}

func importerArgs(image Image, settings Settings) []string {
	args := []string{
		"import",
		"--destination=" + image.Reference(settings.RegistryAddress),
		"--registry-ca-file=" + mountPath + "/" + keyCA,
		"--token-file=" + mountPath + "/" + keyToken,
		"--report-url=" + settings.ReportURL,
	}
	http := image.Source.HTTP
	if http == nil {
		return args
	}
	args = append(args, "--source-url="+http.URL)
	if len(http.CABundle) > 0 {
		args = append(args, "--source-ca-file="+mountPath+"/"+keySourceCA)
	}
	for _, checksum := range checksums(http.Checksum) {
		args = append(args, "--checksum="+checksum)
	}
	return args
}

// checksums lists the wanted digests as <algorithm>:<hex>, sorted.
func checksums(checksum *v1alpha2.Checksum) []string {
	if checksum == nil {
		return nil
	}
	var out []string
	for algorithm, digest := range map[string]string{
		"md5": checksum.MD5, "sha1": checksum.SHA1, "sha256": checksum.SHA256, "sha512": checksum.SHA512,
		"streebog256": checksum.Streebog256, "streebog512": checksum.Streebog512,
	} {
		if digest != "" {
			out = append(out, algorithm+":"+digest)
		}
	}
	sort.Strings(out)
	return out
}

// childMeta names and labels a child. A cluster image may own objects of a
// namespace, so both kinds' children go with their owner even if nobody cleans up.
func childMeta(image Image, settings Settings) metav1.ObjectMeta {
	labels := shared.ChildLabels()
	labels["app"] = containerName
	return metav1.ObjectMeta{
		Namespace:       image.ChildNamespace(settings),
		Name:            image.ChildName(),
		Labels:          labels,
		OwnerReferences: []metav1.OwnerReference{shared.OwnerReference(image.Kind, image.Name, image.UID)},
	}
}
