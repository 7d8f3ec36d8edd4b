{{- /* helm_lib_module_ephemeral_storage_only_logs is what the logs of a container take on its node. */ -}}
{{- define "helm_lib_module_ephemeral_storage_only_logs" -}}
ephemeral-storage: 50Mi
{{- end -}}

{{- /*
  helm_lib_vpa prints a VerticalPodAutoscaler for a workload with one container. There is none where the module
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
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_pdb lets a drain take one replica at a time, and the only one too: nothing here may hold up a drain for ever.
  Usage: {{ include "helm_lib_pdb" (list . "dvcr") }}
*/ -}}
{{- define "helm_lib_pdb" -}}
{{- $context := index . 0 -}}
{{- $name := index . 1 -}}
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
      app: {{ $name }}
{{- end -}}
