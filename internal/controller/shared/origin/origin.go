// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/dvcr"
)

// Words are spec.dataSource in a form that all kinds of images share.
type Words struct {
	Type           v1alpha2.DataSourceType
	HTTP           *v1alpha2.HTTPSource
	ContainerImage *ContainerImage
	Upload         *v1alpha2.UploadSource
	Object         *Object
}

// ContainerImage is a container image with the Secret it is pulled with.
type ContainerImage struct {
	Image    string
	CABundle []byte
	// Secret is empty where no credentials are needed.
	Secret types.NamespacedName
}

// Object is another object of the platform; its namespace is empty for a cluster
// image.
type Object struct {
	Kind      string
	Namespace string
	Name      string
}

// String is how people are told of the object.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name)
}

// Facts are what was looked up for the words.
type Facts struct {
	// Secret is the pull secret; nil if there is none of the name.
	Secret *corev1.Secret
	// Referent is the object; nil if none is named.
	Referent *Referent
}

// Referent is what matters of an image or a disk that another one is made from.
type Referent struct {
	// Found is false if there is no such object; then nothing below is set.
	Found bool
	UID   types.UID
	// Ready tells that its content can be read; Phase and Message tell why not.
	Ready    bool
	Phase    string
	Message  string
	Deleting bool
	// Reference is the content's in DVCR, or empty if it is on a claim.
	Reference string
	// Claim holds the content, or is nil.
	Claim *Claim
	// Bytes is the size of the disk that a guest sees.
	Bytes int64
	// Format and CDROM are as the referent tells them.
	Format string
	CDROM  bool
	// Machines are those that hold the disk, sorted.
	Machines []string
}

// Claim is the volume of a referent.
type Claim struct {
	Name  string
	Block bool
	// StorageClass is the claim's.
	StorageClass string
	// Tolerations let a reader run where the volume is.
	Tolerations []corev1.Toleration
}

// Origin is what the words come down to.
type Origin struct {
	// Source is what the importer reads. The token of an upload is not in it.
	Source importerpod.Source
	// Namespace is where the importer has to run; empty for the module's.
	Namespace string
	// Pull is the repository that has to be opened for reading, or empty.
	Pull string
	// Referent is set for ObjectRef.
	Referent *Referent
}

// Trouble is why an import cannot begin.
type Trouble struct {
	// Reason is for the condition of the data source, Ready for the object's own.
	Reason v1alpha2.ConditionReason
	Ready  v1alpha2.ConditionReason
	// Message names what is missing and the remedy.
	Message string
	// Stop tells that an import that is under way must not go on.
	Stop bool
	// Permanent tells that only a change of the spec helps.
	Permanent bool
}

const field = "spec.dataSource"

// Resolve is pure. Trouble comes with an Origin as far as it is known: an import
// that runs already is compared with it.
func Resolve(words Words, facts Facts, self Object) (Origin, *Trouble) {
	if trouble := unknownChecksum(words); trouble != nil {
		return Origin{}, trouble
	}
	switch {
	case words.Type == v1alpha2.DataSourceHTTP && words.HTTP != nil:
		return Origin{Source: importerpod.Source{HTTP: &importerpod.HTTP{
			URL: words.HTTP.URL, CABundle: words.HTTP.CABundle, Checksums: importerpod.Checksums(words.HTTP.Checksum),
		}}}, nil
	case words.Type == v1alpha2.DataSourceUpload:
		upload := &importerpod.Upload{}
		if words.Upload != nil {
			upload.Checksums = importerpod.Checksums(words.Upload.Checksum)
		}
		return Origin{Source: importerpod.Source{Upload: upload}}, nil
	case words.Type == v1alpha2.DataSourceContainerImage && words.ContainerImage != nil:
		return resolveContainerImage(*words.ContainerImage, facts.Secret)
	case words.Type == v1alpha2.DataSourceObjectRef && words.Object != nil && facts.Referent != nil:
		return resolveObject(*words.Object, *facts.Referent, self)
	}
	return Origin{}, unsupported(fmt.Sprintf("%s.type: %q needs its own member of the data source and no other; set it", field, words.Type))
}

// unknownChecksum refuses digests that no importer can compute, before the whole
// file is moved for nothing.
func unknownChecksum(words Words) *Trouble {
	var (
		checksum *v1alpha2.Checksum
		source   string
	)
	switch {
	case words.Type == v1alpha2.DataSourceHTTP && words.HTTP != nil:
		checksum, source = words.HTTP.Checksum, "http"
	case words.Type == v1alpha2.DataSourceUpload && words.Upload != nil:
		checksum, source = words.Upload.Checksum, "upload"
	}
	var algorithm string
	switch {
	case checksum == nil:
		return nil
	case checksum.Streebog256 != "":
		algorithm = "streebog256"
	case checksum.Streebog512 != "":
		algorithm = "streebog512"
	default:
		return nil
	}
	return unsupported(fmt.Sprintf("%s.%s.checksum.%s: this digest cannot be computed here; give md5, sha1, sha256 or sha512 instead",
		field, source, algorithm))
}

func unsupported(message string) *Trouble {
	return &Trouble{
		Reason: v1alpha2.ReasonDatasourceNotSupported, Ready: v1alpha2.ReasonDatasourceIsNotReady,
		Message: message, Stop: true, Permanent: true,
	}
}

func resolveContainerImage(image ContainerImage, secret *corev1.Secret) (Origin, *Trouble) {
	registry := &importerpod.Registry{Image: image.Image, CABundle: image.CABundle}
	out := Origin{Source: importerpod.Source{Registry: registry}}
	if image.Secret.Name == "" {
		return out, nil
	}
	missing := func(message string) *Trouble {
		return &Trouble{
			Reason: v1alpha2.ReasonContainerRegistrySecretNotFound, Ready: v1alpha2.ReasonDatasourceIsNotReady,
			Message: field + ".containerImage.imagePullSecret: " + message,
		}
	}
	if secret == nil {
		return out, missing(fmt.Sprintf("there is no Secret %s in namespace %s; make it with "+
			"kubectl create secret docker-registry, or correct the name", image.Secret.Name, image.Secret.Namespace))
	}
	registry.DockerConfig = secret.Data[corev1.DockerConfigJsonKey]
	if len(registry.DockerConfig) == 0 {
		return out, missing(fmt.Sprintf("Secret %s/%s has no key %s; make it anew with the type %s",
			image.Secret.Namespace, image.Secret.Name, corev1.DockerConfigJsonKey, corev1.SecretTypeDockerConfigJson))
	}
	return out, nil
}

// reasonsOf are those of a kind that cannot be read.
var reasonsOf = map[string]struct{ notFound, notReady v1alpha2.ConditionReason }{
	v1alpha2.VirtualImageKind:        {v1alpha2.ReasonImageNotFound, v1alpha2.ReasonImageNotReady},
	v1alpha2.ClusterVirtualImageKind: {v1alpha2.ReasonClusterImageNotFound, v1alpha2.ReasonClusterImageNotReady},
	v1alpha2.VirtualDiskKind:         {v1alpha2.ReasonVirtualDiskNotFound, v1alpha2.ReasonVirtualDiskNotReady},
}

func resolveObject(object Object, referent Referent, self Object) (Origin, *Trouble) {
	if object == self {
		return Origin{}, unsupported(fmt.Sprintf("%s.objectRef: an image cannot be made from itself; name another one", field))
	}
	out := Origin{Referent: &referent}
	switch {
	case referent.Claim != nil:
		out.Namespace = object.Namespace
		out.Source.Volume = &importerpod.Volume{ClaimName: referent.Claim.Name, Block: referent.Claim.Block, Tolerations: referent.Claim.Tolerations}
	case referent.Reference != "":
		out.Source.DVCR = &importerpod.DVCR{Reference: referent.Reference}
		out.Pull = dvcr.Repository(object.Kind, object.Namespace, object.Name)
	}
	return out, troubleOf(object, referent)
}

func troubleOf(object Object, referent Referent) *Trouble {
	reasons := reasonsOf[object.Kind]
	notReady := &Trouble{Reason: reasons.notReady, Ready: v1alpha2.ReasonDatasourceIsNotReady}
	switch {
	case !referent.Found:
		return &Trouble{
			Reason: reasons.notFound, Ready: v1alpha2.ReasonDatasourceIsNotFound, Stop: true,
			Message: fmt.Sprintf("%s.objectRef: there is no %s; create it or correct the name", field, object),
		}
	case len(referent.Machines) > 0:
		return &Trouble{
			Reason: v1alpha2.ReasonVirtualDiskAttachedToVirtualMachine, Ready: v1alpha2.ReasonDatasourceIsNotReady, Stop: true,
			Message: fmt.Sprintf("%s.objectRef: %s is attached to VirtualMachine %s, which writes to it; "+
				"stop the machine or detach the disk, and the image is made", field, object, strings.Join(referent.Machines, ", ")),
		}
	case referent.Deleting:
		notReady.Message = fmt.Sprintf("%s.objectRef: %s is being deleted; name another one", field, object)
		return notReady
	case !referent.Ready || referent.Claim == nil && referent.Reference == "":
		notReady.Message = fmt.Sprintf("%s.objectRef: %s is not ready%s", field, object, because(referent))
		return notReady
	}
	return nil
}

// because tells the referent's phase and, once it has failed, its own explanation.
// While it makes progress the message would change with every percent.
func because(referent Referent) string {
	switch {
	case referent.Phase == "":
		return " yet"
	case referent.Message != "" && (referent.Phase == string(v1alpha2.ImageFailed) || referent.Phase == string(v1alpha2.ImageLost)):
		return fmt.Sprintf(" (%s): %s", referent.Phase, referent.Message)
	}
	return fmt.Sprintf(" (%s): the image is made as soon as it is", referent.Phase)
}
