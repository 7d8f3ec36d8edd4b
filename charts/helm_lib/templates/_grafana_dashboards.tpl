{{- /*
  helm_lib_grafana_dashboard_definitions prints a GrafanaDashboardDefinition for each file in monitoring/grafana-dashboards/<folder>:
  Grafana shows the dashboard in the folder of that name. Where the platform has no Grafana to define dashboards for there is nothing
  to print.
  Usage: {{ include "helm_lib_grafana_dashboard_definitions" . }}
*/ -}}
{{- define "helm_lib_grafana_dashboard_definitions" -}}
{{- $context := . -}}
{{- if has "prometheus-crd" ($context.Values.global.enabledModules | default list) -}}
{{- range $path, $content := $context.Files.Glob "monitoring/grafana-dashboards/*/*.json" }}
{{- $folder := base (dir $path) }}
---
apiVersion: deckhouse.io/v1
kind: GrafanaDashboardDefinition
metadata:
  name: d8-{{ $context.Chart.Name }}-{{ $folder }}-{{ base $path | trimSuffix ".json" }}
  {{- include "helm_lib_module_labels" (list $context (dict "prometheus.deckhouse.io/grafana-dashboard" "")) | nindent 2 }}
spec:
  folder: {{ $folder | replace "-" " " | title | quote }}
  definition: |
    {{- $content | toString | trim | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}
