// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// The linter knows no cluster: it makes up all values by the examples in their schemas, every setting at once, and a
// template that does not render with them is passed over.
func TestExamplesRenderTheWholeChart(t *testing.T) {
	schema, err := ModuleValues()
	if err != nil {
		t.Fatal(err)
	}
	c := Case{Settings: made(t, "", schema).(map[string]any)}
	for _, problem := range Validate(schema, toJSON(t, c.Settings)) {
		t.Error(problem)
	}
	c.Internal = c.Settings["internal"].(map[string]any)
	delete(c.Settings, "internal")
	// Its platform has no number, which stands for the newest one.
	c.Global = map[string]any{"deckhouseVersion": "test"}

	silent := map[string]bool{}
	for _, c := range matrix {
		for _, object := range render(t, c) {
			silent[object.Template] = true
		}
	}
	for _, object := range render(t, c) {
		delete(silent, object.Template)
	}
	// Images are in one place at a time.
	if got := slices.Collect(maps.Keys(silent)); !slices.Equal(got, []string{"templates/dvcr/object-storage.yaml"}) {
		t.Errorf("nothing is made by %q", got)
	}
}

// made is a value that a schema describes: the fullest of its examples, or what follows from its type.
func made(t *testing.T, path string, schema *spec.Schema) any {
	t.Helper()
	examples, _ := schema.Extensions["x-examples"].([]any)
	if len(schema.Properties) > 0 {
		object := map[string]any{}
		for name, property := range schema.Properties {
			object[name] = made(t, path+"."+name, &property)
		}
		merge(object, fullest(examples))
		return object
	}
	switch {
	case len(examples) > 0:
		return examples[0]
	case schema.Default != nil:
		return schema.Default
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case schema.Pattern != "":
		t.Errorf("%s has a pattern and no example", path)
	case schema.Type.Contains("array"):
		return []any{made(t, path+"[]", schema.Items.Schema)}
	case schema.Type.Contains("boolean"):
		return true
	case schema.Type.Contains("integer"):
		return 123
	}
	return "made-up"
}

// fullest is the example with the most keys, the first one of several.
func fullest(examples []any) map[string]any {
	var best map[string]any
	for _, example := range examples {
		if object, is := example.(map[string]any); is && len(object) > len(best) {
			best = object
		}
	}
	return best
}

// merge puts what is above over what is below, objects key by key.
func merge(below, above map[string]any) {
	for name, value := range above {
		over, both := value.(map[string]any)
		under, is := below[name].(map[string]any)
		if both && is {
			merge(under, over)
		} else {
			below[name] = value
		}
	}
}

// A container without bounds is an error to the linter, whether it is scaled or not.
func TestEveryContainerThatIsScaledHasBounds(t *testing.T) {
	policies := 0
	for _, object := range render(t, Case{}) {
		if object.GetKind() != "VerticalPodAutoscaler" {
			continue
		}
		var scaler struct {
			Spec struct {
				ResourcePolicy struct {
					ContainerPolicies []struct {
						ContainerName          string
						MinAllowed, MaxAllowed corev1.ResourceList
					}
				}
			}
		}
		convert(t, object, &scaler)
		for _, policy := range scaler.Spec.ResourcePolicy.ContainerPolicies {
			policies++
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				least, most := policy.MinAllowed[name], policy.MaxAllowed[name]
				if least.Sign() <= 0 || least.Cmp(most) > 0 {
					t.Errorf("%s: %s: %s from %s to %s", object.GetName(), policy.ContainerName, name, &least, &most)
				}
			}
		}
	}
	if policies < 12 {
		t.Errorf("only %d policies were found", policies)
	}
}
