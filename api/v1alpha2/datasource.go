// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

// DataSourceType says where the bytes of an image or a disk come from.
// +kubebuilder:validation:Enum=HTTP;ContainerImage;ObjectRef;Upload
type DataSourceType string

const (
	// DataSourceHTTP downloads a file from a web server.
	DataSourceHTTP DataSourceType = "HTTP"
	// DataSourceContainerImage takes the disk file out of a container image.
	DataSourceContainerImage DataSourceType = "ContainerImage"
	// DataSourceObjectRef copies from another object of the platform.
	DataSourceObjectRef DataSourceType = "ObjectRef"
	// DataSourceUpload waits for the user to upload a file.
	DataSourceUpload DataSourceType = "Upload"
)

// HTTPSource is a file on a web server.
type HTTPSource struct {
	// url is the address of the file, beginning with http:// or https://. Disk files (qcow2, raw, vmdk, vdi, vhd,
	// vhdx) and ISO files are accepted, also compressed with gzip, xz or zstd.
	// +required
	// +kubebuilder:validation:MaxLength=8192
	// +kubebuilder:validation:XValidation:rule="self.matches('^https?://[^/?#[:space:]]+[^[:space:]]*$')",message="url must begin with http:// or https:// and name a host, for example https://example.com/disk.qcow2"
	URL string `json:"url"`

	// caBundle holds PEM certificates, base64-encoded, that the server's certificate is verified with, in addition to
	// the certificates of the system.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`

	// checksum makes the import fail unless the downloaded bytes match.
	// +optional
	Checksum *Checksum `json:"checksum,omitempty"`
}

// UploadSource refines how an upload is checked.
type UploadSource struct {
	// checksum makes the upload fail unless the received bytes match.
	// +optional
	Checksum *Checksum `json:"checksum,omitempty"`
}

// Checksum lists the digests, in hexadecimal, that the file must have as it is sent (before any decompression).
// Every digest given is verified.
type Checksum struct {
	// md5 is the MD5 digest of the file, 32 hexadecimal digits.
	// +optional
	// +kubebuilder:validation:MinLength=32
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{32}$`
	MD5 string `json:"md5,omitempty"`

	// sha1 is the SHA-1 digest of the file, 40 hexadecimal digits.
	// +optional
	// +kubebuilder:validation:MinLength=40
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{40}$`
	SHA1 string `json:"sha1,omitempty"`

	// sha256 is the SHA-256 digest of the file, 64 hexadecimal digits.
	// +optional
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{64}$`
	SHA256 string `json:"sha256,omitempty"`

	// sha512 is the SHA-512 digest of the file, 128 hexadecimal digits.
	// +optional
	// +kubebuilder:validation:MinLength=128
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{128}$`
	SHA512 string `json:"sha512,omitempty"`

	// streebog256 is the GOST R 34.11-2012 digest of 256 bits, 64 hexadecimal digits. This version does not compute it: the
	// source is refused.
	// +optional
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{64}$`
	Streebog256 string `json:"streebog256,omitempty"`

	// streebog512 is the GOST R 34.11-2012 digest of 512 bits, 128 hexadecimal digits. This version does not compute it: the
	// source is refused.
	// +optional
	// +kubebuilder:validation:MinLength=128
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{128}$`
	Streebog512 string `json:"streebog512,omitempty"`
}

// ContainerImageName is a reference to a container image: registry, repository and a tag or a digest.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z][A-Za-z0-9]*([+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$')",message="image must be a container image reference, for example registry.example.com/disks/debian:13"
type ContainerImageName string

// ContainerImageSource is a container image that holds a disk file in its directory /disk.
type ContainerImageSource struct {
	// image is the reference of the container image, with a tag or a digest.
	// +required
	Image ContainerImageName `json:"image"`

	// imagePullSecret names the Secret, in the namespace of this object, with the credentials of the registry
	// (type kubernetes.io/dockerconfigjson).
	// +optional
	ImagePullSecret *ImagePullSecret `json:"imagePullSecret,omitempty"`

	// caBundle holds PEM certificates, base64-encoded, that the registry's certificate is verified with, in addition
	// to the certificates of the system.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// ImagePullSecret names a Secret with registry credentials.
type ImagePullSecret struct {
	// name is the name of the Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// ClusterContainerImageSource is a container image that holds a disk file in its directory /disk.
type ClusterContainerImageSource struct {
	// image is the reference of the container image, with a tag or a digest.
	// +required
	Image ContainerImageName `json:"image"`

	// imagePullSecret names the Secret with the credentials of the registry (type kubernetes.io/dockerconfigjson).
	// +optional
	ImagePullSecret *ClusterImagePullSecret `json:"imagePullSecret,omitempty"`

	// caBundle holds PEM certificates, base64-encoded, that the registry's certificate is verified with, in addition
	// to the certificates of the system.
	// +optional
	CABundle []byte `json:"caBundle,omitempty"`
}

// ClusterImagePullSecret names a Secret with registry credentials in any namespace.
type ClusterImagePullSecret struct {
	// name is the name of the Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace is the namespace of the Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// DownloadSpeed shows how fast the bytes come in.
type DownloadSpeed struct {
	// avg is the average speed since the import began, for people, for example 85.2Mi/s.
	// +optional
	Avg string `json:"avg,omitempty"`

	// avgBytes is the average speed in bytes per second.
	// +optional
	AvgBytes string `json:"avgBytes,omitempty"`

	// current is the speed at the moment, for people; empty when nothing is being transferred.
	// +optional
	Current string `json:"current,omitempty"`

	// currentBytes is the speed at the moment in bytes per second; empty when nothing is being transferred.
	// +optional
	CurrentBytes string `json:"currentBytes,omitempty"`
}

// UploadURLs are the addresses that accept the file when the data source is Upload. They are secrets: whoever knows
// one may upload.
type UploadURLs struct {
	// external is the address for clients outside the cluster; empty when the module has no public domain.
	// +optional
	External string `json:"external,omitempty"`

	// inCluster is the address for clients inside the cluster.
	// +optional
	InCluster string `json:"inCluster,omitempty"`
}
