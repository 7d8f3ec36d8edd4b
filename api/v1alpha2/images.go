// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ImagePhase is a summary of an image's conditions for people.
type ImagePhase string

const (
	// ImagePending means that something the image depends on is missing.
	ImagePending ImagePhase = "Pending"
	// ImageProvisioning means that bytes are being fetched and stored.
	ImageProvisioning ImagePhase = "Provisioning"
	// ImageWaitForUserUpload means that the upload address is open and nothing came yet.
	ImageWaitForUserUpload ImagePhase = "WaitForUserUpload"
	// ImageReady means that the image can be used.
	ImageReady ImagePhase = "Ready"
	// ImageFailed means that the image will not become ready until its spec or its source is corrected.
	ImageFailed ImagePhase = "Failed"
	// ImageTerminating means that the image is being deleted.
	ImageTerminating ImagePhase = "Terminating"
	// ImageLost means that the stored image has vanished from the module's registry.
	ImageLost ImagePhase = "ImageLost"
	// ImagePVCLost means that the volume of a VirtualImage kept on a volume has vanished.
	ImagePVCLost ImagePhase = "PVCLost"
)

// StorageType says where a VirtualImage keeps its bytes.
// +kubebuilder:validation:Enum=ContainerRegistry;Kubernetes;PersistentVolumeClaim
type StorageType string

const (
	// StorageContainerRegistry keeps the image in the module's own registry.
	StorageContainerRegistry StorageType = "ContainerRegistry"
	// StoragePersistentVolumeClaim keeps the image on a volume.
	StoragePersistentVolumeClaim StorageType = "PersistentVolumeClaim"
	// StorageKubernetes is the old name of StoragePersistentVolumeClaim.
	StorageKubernetes StorageType = "Kubernetes"
)

// VirtualImage is a read-only disk or CD-ROM image of one project. Machines of the project attach it as it is, and
// disks are made from it. It can also be a copy of a disk or of another image.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualimage,shortName=vi,categories=virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="CDROM",type=boolean,JSONPath=`.status.cdrom`
// +kubebuilder:printcolumn:name="Progress",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="StoredSize",type=string,priority=1,JSONPath=`.status.size.stored`
// +kubebuilder:printcolumn:name="UnpackedSize",type=string,priority=1,JSONPath=`.status.size.unpacked`
// +kubebuilder:printcolumn:name="Registry URL",type=string,priority=1,JSONPath=`.status.target.registryURL`
// +kubebuilder:printcolumn:name="TargetPVC",type=string,priority=1,JSONPath=`.status.target.persistentVolumeClaimName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.metadata.name.contains('.')",message="metadata.name must not contain dots: rename the image, for example with dashes",optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Ready', 'ImageLost', 'PVCLost', 'Terminating']) || self.spec == oldSelf.spec",message="the spec of a finished image cannot be changed: delete the image and make it again",fieldPath=".spec"
type VirtualImage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec VirtualImageSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualImageStatus `json:"status,omitempty"`
}

// VirtualImageSpec is what the user wants of an image.
type VirtualImageSpec struct {
	// storage says where the image is kept. ContainerRegistry is the module's own registry: the image can be attached
	// on any node and is best for images that many machines share. PersistentVolumeClaim is a volume of a storage
	// class: disks made from it are cloned by the storage. Kubernetes is the old name of PersistentVolumeClaim.
	// +required
	// +kubebuilder:default=ContainerRegistry
	Storage StorageType `json:"storage"`

	// persistentVolumeClaim sets the volume when storage is PersistentVolumeClaim; otherwise it is ignored.
	// +optional
	PersistentVolumeClaim *VirtualImagePersistentVolumeClaim `json:"persistentVolumeClaim,omitempty"`

	// dataSource is where the bytes come from.
	// +required
	DataSource VirtualImageDataSource `json:"dataSource"`
}

// VirtualImagePersistentVolumeClaim sets the volume of an image.
type VirtualImagePersistentVolumeClaim struct {
	// storageClassName is the storage class of the volume. If it is not set, the default of the module's settings
	// is taken, then the default of the cluster.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// VirtualImageDataSource is where the bytes of an image come from: the type and the one member that belongs to it.
// +kubebuilder:validation:XValidation:rule="has(self.http) == (self.type == 'HTTP')",message="http must be set when type is HTTP, and only then",fieldPath=".http"
// +kubebuilder:validation:XValidation:rule="has(self.containerImage) == (self.type == 'ContainerImage')",message="containerImage must be set when type is ContainerImage, and only then",fieldPath=".containerImage"
// +kubebuilder:validation:XValidation:rule="has(self.objectRef) == (self.type == 'ObjectRef')",message="objectRef must be set when type is ObjectRef, and only then",fieldPath=".objectRef"
// +kubebuilder:validation:XValidation:rule="!has(self.upload) || self.type == 'Upload'",message="upload may be set only when type is Upload",fieldPath=".upload"
type VirtualImageDataSource struct {
	// type chooses the source; the member that belongs to it must be set (upload may be left out) and no other.
	// +required
	Type DataSourceType `json:"type"`

	// http is the file to download when type is HTTP.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`

	// containerImage is the container image to read when type is ContainerImage.
	// +optional
	ContainerImage *ContainerImageSource `json:"containerImage,omitempty"`

	// objectRef is the object to copy when type is ObjectRef.
	// +optional
	ObjectRef *VirtualImageObjectRef `json:"objectRef,omitempty"`

	// upload refines the upload when type is Upload; the address to upload to appears in status.imageUploadURLs.
	// +optional
	Upload *UploadSource `json:"upload,omitempty"`
}

// VirtualImageObjectRef names the object that an image is copied from.
type VirtualImageObjectRef struct {
	// kind is the kind of the source. A VirtualDisk must be ready and not attached to a running machine.
	// +required
	// +kubebuilder:validation:Enum=ClusterVirtualImage;VirtualImage;VirtualDisk
	Kind string `json:"kind"`

	// name is the name of the source; a VirtualImage or a VirtualDisk is looked up in the namespace of this object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VirtualImageStatus is what the platform has made of an image.
type VirtualImageStatus struct {
	ImageStatus `json:",inline"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Provisioning;WaitForUserUpload;Ready;Failed;Terminating;ImageLost;PVCLost
	Phase ImagePhase `json:"phase,omitempty"`

	// target is where the image is kept.
	// +optional
	Target VirtualImageTarget `json:"target,omitempty"`

	// storageClassName is the storage class of the volume; empty when the image is kept in the module's registry.
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// VirtualImageTarget is where an image is kept.
type VirtualImageTarget struct {
	// registryURL is the reference of the image in the module's registry.
	// +optional
	RegistryURL string `json:"registryURL,omitempty"`

	// persistentVolumeClaimName is the claim of the volume that holds the image.
	// +optional
	PersistentVolumeClaimName string `json:"persistentVolumeClaimName,omitempty"`
}

// ImageStatus is the part of the status that all images share.
type ImageStatus struct {
	// conditions tell step by step what the image waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// progress is the share of the bytes that have been stored, from 0% to 100%; empty before the import begins.
	// +optional
	Progress string `json:"progress,omitempty"`

	// cdrom tells that the image is an ISO, which machines see as a CD-ROM.
	// +optional
	CDROM bool `json:"cdrom,omitempty"`

	// format is the format that was found in the source, for example qcow2, raw or iso.
	// +optional
	Format string `json:"format,omitempty"`

	// size tells how large the image is.
	// +optional
	Size ImageSize `json:"size,omitempty"`

	// downloadSpeed shows how fast the image is being fetched.
	// +optional
	DownloadSpeed *DownloadSpeed `json:"downloadSpeed,omitempty"`

	// imageUploadURLs are the addresses to upload to when the data source is Upload.
	// +optional
	ImageUploadURLs *UploadURLs `json:"imageUploadURLs,omitempty"`

	// uploadCommand is a ready command line for the upload. Deprecated: use imageUploadURLs.
	// +optional
	UploadCommand string `json:"uploadCommand,omitempty"`

	// sourceUID is the uid of the object that the image was copied from.
	// +optional
	SourceUID string `json:"sourceUID,omitempty"`
}

// ImageSize tells how large an image is.
type ImageSize struct {
	// stored is the space that the image takes in the storage, for people, for example 512Mi.
	// +optional
	Stored string `json:"stored,omitempty"`

	// storedBytes is the space that the image takes in the storage, in bytes.
	// +optional
	StoredBytes string `json:"storedBytes,omitempty"`

	// unpacked is the size of the disk that the guest sees, for people. A disk made from the image is at least that
	// large.
	// +optional
	Unpacked string `json:"unpacked,omitempty"`

	// unpackedBytes is the size of the disk that the guest sees, in bytes.
	// +optional
	UnpackedBytes string `json:"unpackedBytes,omitempty"`
}

// VirtualImageList is a list of images.
// +kubebuilder:object:root=true
type VirtualImageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualImage `json:"items"`
}

// ClusterVirtualImage is a read-only disk or CD-ROM image that every project may use. It is kept in the module's own
// registry.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,singular=clustervirtualimage,shortName=cvi,categories=virtualization-cluster
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:metadata:labels="backup.deckhouse.io/cluster-config=true"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="CDROM",type=boolean,JSONPath=`.status.cdrom`
// +kubebuilder:printcolumn:name="Progress",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="StoredSize",type=string,priority=1,JSONPath=`.status.size.stored`
// +kubebuilder:printcolumn:name="UnpackedSize",type=string,priority=1,JSONPath=`.status.size.unpacked`
// +kubebuilder:printcolumn:name="Registry URL",type=string,priority=1,JSONPath=`.status.target.registryURL`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.metadata.name.contains('.')",message="metadata.name must not contain dots: rename the image, for example with dashes",optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Ready', 'Terminating']) || self.spec == oldSelf.spec",message="the spec of a finished image cannot be changed: delete the image and make it again",fieldPath=".spec"
type ClusterVirtualImage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec ClusterVirtualImageSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status ClusterVirtualImageStatus `json:"status,omitempty"`
}

// ClusterVirtualImageSpec is what the user wants of a cluster image.
type ClusterVirtualImageSpec struct {
	// dataSource is where the bytes come from.
	// +required
	DataSource ClusterVirtualImageDataSource `json:"dataSource"`
}

// ClusterVirtualImageDataSource is where the bytes of a cluster image come from: the type and the one member that
// belongs to it.
// +kubebuilder:validation:XValidation:rule="has(self.http) == (self.type == 'HTTP')",message="http must be set when type is HTTP, and only then",fieldPath=".http"
// +kubebuilder:validation:XValidation:rule="has(self.containerImage) == (self.type == 'ContainerImage')",message="containerImage must be set when type is ContainerImage, and only then",fieldPath=".containerImage"
// +kubebuilder:validation:XValidation:rule="has(self.objectRef) == (self.type == 'ObjectRef')",message="objectRef must be set when type is ObjectRef, and only then",fieldPath=".objectRef"
// +kubebuilder:validation:XValidation:rule="!has(self.upload) || self.type == 'Upload'",message="upload may be set only when type is Upload",fieldPath=".upload"
type ClusterVirtualImageDataSource struct {
	// type chooses the source; the member that belongs to it must be set (upload may be left out) and no other.
	// +required
	Type DataSourceType `json:"type"`

	// http is the file to download when type is HTTP.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`

	// containerImage is the container image to read when type is ContainerImage.
	// +optional
	ContainerImage *ClusterContainerImageSource `json:"containerImage,omitempty"`

	// objectRef is the object to copy when type is ObjectRef.
	// +optional
	ObjectRef *ClusterVirtualImageObjectRef `json:"objectRef,omitempty"`

	// upload refines the upload when type is Upload; the address to upload to appears in status.imageUploadURLs.
	// +optional
	Upload *UploadSource `json:"upload,omitempty"`
}

// ClusterVirtualImageObjectRef names the object that a cluster image is copied from.
// +kubebuilder:validation:XValidation:rule="self.kind == 'ClusterVirtualImage' || (has(self.namespace) && size(self.namespace) > 0)",message="namespace must be set unless kind is ClusterVirtualImage",fieldPath=".namespace"
// +kubebuilder:validation:XValidation:rule="!has(self.namespace) || size(self.namespace) < 64",message="namespace must be shorter than 64 characters",fieldPath=".namespace"
type ClusterVirtualImageObjectRef struct {
	// kind is the kind of the source. A VirtualDisk must be ready and not attached to a running machine.
	// +required
	// +kubebuilder:validation:Enum=ClusterVirtualImage;VirtualImage;VirtualDisk
	Kind string `json:"kind"`

	// name is the name of the source.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// namespace is the namespace of the source; needed unless kind is ClusterVirtualImage.
	// +optional
	Namespace string `json:"namespace,omitempty"`
}

// ClusterVirtualImageStatus is what the platform has made of a cluster image.
type ClusterVirtualImageStatus struct {
	ImageStatus `json:",inline"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Provisioning;WaitForUserUpload;Ready;Failed;Terminating;ImageLost
	Phase ImagePhase `json:"phase,omitempty"`

	// target is where the image is kept.
	// +optional
	Target ClusterVirtualImageTarget `json:"target,omitempty"`

	// usedInNamespaces lists the namespaces in which the image is in use, sorted.
	// +optional
	// +listType=set
	UsedInNamespaces []string `json:"usedInNamespaces,omitempty"`
}

// ClusterVirtualImageTarget is where a cluster image is kept.
type ClusterVirtualImageTarget struct {
	// registryURL is the reference of the image in the module's registry.
	// +optional
	RegistryURL string `json:"registryURL,omitempty"`
}

// ClusterVirtualImageList is a list of cluster images.
// +kubebuilder:object:root=true
type ClusterVirtualImageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterVirtualImage `json:"items"`
}
