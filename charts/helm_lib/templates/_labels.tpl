{{- /*
  helm_lib_module_labels prints the labels every object of a module carries.
  Usage: {{ include "helm_lib_module_labels" (list . (dict "app" "dvcr")) }}
*/ -}}
{{- define "helm_lib_module_labels" -}}
{{- $context := index . 0 -}}
{{- $extra := dict -}}
{{- if gt (len .) 1 }}{{ $extra = index . 1 }}{{ end -}}
labels:
{{- range $key, $value := merge (dict "heritage" "deckhouse" "module" $context.Chart.Name) $extra }}
  {{ $key }}: {{ $value | quote }}
{{- end }}
{{- end -}}
