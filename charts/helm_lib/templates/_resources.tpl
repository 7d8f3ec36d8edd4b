{{- /* helm_lib_module_ephemeral_storage_only_logs is what the logs of a container take on its node. */ -}}
{{- define "helm_lib_module_ephemeral_storage_only_logs" -}}
ephemeral-storage: 50Mi
{{- end -}}

{{- /*
  helm_lib_vpa prints a VerticalPodAutoscaler for a workload whose container has its name; others in the pod, which do
  nothing, are named at the end and keep what they ask for. There is none where the module
  vertical-pod-autoscaler is off, nor before the cluster serves the kind: one unknown kind fails the whole release.
  Usage: {{ include "helm_lib_vpa" (list . "Deployment" "dvcr" (dict "cpu" "10m" "memory" "25Mi") (dict "cpu" "1" "memory" "1Gi")) }}
*/ -}}
{{- define "helm_lib_vpa" -}}
{{- $context := index . 0 -}}
{{- $name := index . 2 -}}
{{- $enabled := has "vertical-pod-autoscaler" ($context.Values.global.enabledModules | default list) -}}
{{- if and $enabled ($context.Capabilities.APIVersions.Has "autoscaling.k8s.io/v1/VerticalPodAutoscaler") -}}
---
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: d8-{{ $context.Chart.Name }}
  {{- include "helm_lib_module_labels" (list $context (dict "app" $name)) | nindent 2 }}
spec:
  targetRef:
    apiVersion: apps/v1
    kind: {{ index . 1 }}
    name: {{ $name }}
  updatePolicy:
    updateMode: Initial
  resourcePolicy:
    containerPolicies:
      - containerName: {{ $name }}
        minAllowed:
          {{- toYaml (index . 3) | nindent 10 }}
        maxAllowed:
          {{- toYaml (index . 4) | nindent 10 }}
      {{- if gt (len .) 5 }}
      {{- $bounds := dict "minAllowed" (index . 3) "maxAllowed" (index . 4) }}
      {{- range index . 5 }}
      # What is off is not bounded either; the linter wants bounds of every container.
      - containerName: {{ . }}
        mode: "Off"
        {{- toYaml $bounds | nindent 8 }}
      {{- end }}
      {{- end }}
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_pdb lets a drain take one replica at a time, and the only one too: nothing here may hold up a drain for ever.
  Its pods carry the label app with its name, unless other labels are given.
  Usage: {{ include "helm_lib_pdb" (list . "dvcr") }}
*/ -}}
{{- define "helm_lib_pdb" -}}
{{- $context := index . 0 -}}
{{- $name := index . 1 -}}
{{- $labels := dict "app" $name -}}
{{- if gt (len .) 2 }}{{ $labels = index . 2 }}{{ end -}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: d8-{{ $context.Chart.Name }}
  {{- include "helm_lib_module_labels" (list $context (dict "app" $name)) | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- toYaml $labels | nindent 6 }}
{{- end -}}
