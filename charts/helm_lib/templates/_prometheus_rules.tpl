{{- /*
  helm_lib_prometheus_enabled is empty where the cluster does not know the kinds of the Prometheus operator: they
  come with the one module or the other, depending on the platform's version.
  Usage: {{- if include "helm_lib_prometheus_enabled" . }}
*/ -}}
{{- define "helm_lib_prometheus_enabled" -}}
{{- $modules := .Values.global.enabledModules | default list -}}
{{- if or (has "operator-prometheus" $modules) (has "operator-prometheus-crd" $modules) -}}true{{- end -}}
{{- end -}}

{{- /*
  helm_lib_prometheus_rules prints a PrometheusRule for each file in monitoring/prometheus-rules: a list of groups of rules.
  Where the platform collects no metrics there is nothing to print.
  Usage: {{ include "helm_lib_prometheus_rules" (list . "d8-virtualization") }}
*/ -}}
{{- define "helm_lib_prometheus_rules" -}}
{{- $context := index . 0 -}}
{{- $namespace := index . 1 -}}
{{- if include "helm_lib_prometheus_enabled" $context -}}
{{- range $path, $content := $context.Files.Glob "monitoring/prometheus-rules/*.yaml" }}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ $context.Chart.Name }}-{{ base $path | trimSuffix ".yaml" }}
  namespace: {{ $namespace }}
  {{- include "helm_lib_module_labels" (list $context (dict "app" "prometheus" "prometheus" "main" "component" "rules")) | nindent 2 }}
spec:
  groups:
    {{- $content | toString | trim | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}
