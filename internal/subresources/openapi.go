// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"maps"

	apiextensionsopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apimachinery/pkg/runtime"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// setOpenAPI describes the API. The machine itself is described in full by the
// main group's CRD; here it is only mirrored, so an open object is enough.
func setOpenAPI(config *genericapiserver.RecommendedConfig, scheme *runtime.Scheme) {
	namer := openapinamer.NewDefinitionNamer(scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openAPIDefinitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openAPIDefinitions, namer)
	for _, info := range []*spec.Info{config.OpenAPIConfig.Info, config.OpenAPIV3Config.Info} {
		info.Title, info.Version = "virtualization-api", GroupVersion.Version
	}
}

// openAPIDefinitions adds the kinds of this server to those of apimachinery,
// which the published package of the CRD server carries.
func openAPIDefinitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	definitions := maps.Clone(apiextensionsopenapi.GetOpenAPIDefinitions(ref))
	// The API server looks definitions up by the full name of the Go type.
	const path = "github.com/deckhouse/virtualization/api/v1alpha2."
	definitions[path+"VirtualMachine"] = openObject("VirtualMachine mirrors the machine of virtualization.deckhouse.io.")
	definitions[path+"VirtualMachineList"] = openObject("VirtualMachineList is a list of machines.")
	return definitions
}

func openObject(description string) common.OpenAPIDefinition {
	return common.OpenAPIDefinition{Schema: spec.Schema{
		SchemaProps:      spec.SchemaProps{Description: description, Type: []string{"object"}},
		VendorExtensible: spec.VendorExtensible{Extensions: spec.Extensions{"x-kubernetes-preserve-unknown-fields": true}},
	}}
}
