// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// RefusedPriorityClass is a priority class by which a test makes the API server
// refuse a VirtualMachine, as KubeVirt's admission would do for some mistake.
const RefusedPriorityClass = "refused"

// Resources are KubeVirt's resources with as much of a schema as the tests need.
func Resources() []*apiextensionsv1.CustomResourceDefinition {
	return []*apiextensionsv1.CustomResourceDefinition{
		definition("virtualmachines", "virtualmachine", "VirtualMachine", machineSpec()),
		definition("virtualmachineinstances", "virtualmachineinstance", "VirtualMachineInstance", anything()),
		definition("virtualmachineinstancemigrations", "virtualmachineinstancemigration", "VirtualMachineInstanceMigration", anything()),
		migrationPolicies(),
	}
}

func migrationPolicies() *apiextensionsv1.CustomResourceDefinition {
	out := definition("migrationpolicies", "migrationpolicy", "MigrationPolicy", anything())
	out.Name, out.Spec.Group, out.Spec.Scope = "migrationpolicies.migrations.kubevirt.io", "migrations.kubevirt.io", apiextensionsv1.ClusterScoped
	out.Spec.Versions[0].Name = "v1alpha1"
	return out
}

func definition(plural, singular, kind string, spec apiextensionsv1.JSONSchemaProps) *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".kubevirt.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "kubevirt.io",
			Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: singular, Kind: kind, ListKind: kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type:       "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec, "status": anything()},
				}},
			}},
		},
	}
}

func anything() apiextensionsv1.JSONSchemaProps {
	return apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}
}

// machineSpec accepts everything but RefusedPriorityClass.
func machineSpec() apiextensionsv1.JSONSchemaProps {
	within := func(name string, inner apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
		outer := anything()
		outer.Properties = map[string]apiextensionsv1.JSONSchemaProps{name: inner}
		return outer
	}
	return within("template", within("spec", within("priorityClassName", apiextensionsv1.JSONSchemaProps{
		Type: "string",
		XValidations: apiextensionsv1.ValidationRules{{
			Rule: "self != '" + RefusedPriorityClass + "'", Message: "the engine refuses this",
		}},
	})))
}
