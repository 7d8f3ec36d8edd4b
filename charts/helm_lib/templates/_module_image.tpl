{{- /*
  helm_lib_module_image prints the reference, by digest, of one of the module's images.
  Deckhouse gives a module the address of its own registry; without it the platform's registry is used.
  An image without a digest must stop the rendering: a pod would only wait for ever.
  Usage: {{ include "helm_lib_module_image" (list . "virtualizationController") }}
*/ -}}
{{- define "helm_lib_module_image" -}}
{{- $context := index . 0 -}}
{{- $name := index . 1 | trimAll "\"" -}}
{{- $key := include "helm_lib_module_camelcase_name" $context -}}
{{- $images := $context.Values.global.modulesImages | default dict -}}
{{- $digest := dig $key $name "" ($images.digests | default dict) -}}
{{- if not $digest -}}
{{- fail (printf "image %q of module %q has no digest in global.modulesImages.digests.%s: rebuild images_digests.json" $name $context.Chart.Name $key) -}}
{{- end -}}
{{- $base := dig $key "registry" "base" "" $context.Values.AsMap | default (dig "registry" "base" "" $images) -}}
{{- if not $base -}}
{{- fail (printf "no registry for module %q: neither %s.registry.base nor global.modulesImages.registry.base is set" $context.Chart.Name $key) -}}
{{- end -}}
{{- printf "%s/%s@%s" $base $context.Chart.Name $digest -}}
{{- end -}}

{{- /* helm_lib_module_camelcase_name prints the key of the module in the values. */ -}}
{{- define "helm_lib_module_camelcase_name" -}}
{{- .Chart.Name | replace "-" "_" | camelcase | untitle -}}
{{- end -}}
