{{- /*
  helm_lib_ha_enabled prints "true" or nothing. The module's setting wins over the global one,
  and that over what Deckhouse found out about the control plane.
*/ -}}
{{- define "helm_lib_ha_enabled" -}}
{{- $module := get .Values.AsMap (include "helm_lib_module_camelcase_name" .) -}}
{{- $discovery := .Values.global.discovery | default dict -}}
{{- if hasKey $module "highAvailability" -}}
{{- if $module.highAvailability }}true{{ end -}}
{{- else if hasKey .Values.global "highAvailability" -}}
{{- if .Values.global.highAvailability }}true{{ end -}}
{{- else if hasKey $discovery "clusterControlPlaneIsHighlyAvailable" -}}
{{- if $discovery.clusterControlPlaneIsHighlyAvailable }}true{{ end -}}
{{- else if gt (int ($discovery.clusterMasterCount | default 1)) 1 -}}
true
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_is_ha_to_value prints one of two values.
  Usage: {{ include "helm_lib_is_ha_to_value" (list . 2 1) }}
*/ -}}
{{- define "helm_lib_is_ha_to_value" -}}
{{- $context := index . 0 -}}
{{- if include "helm_lib_ha_enabled" $context }}{{ index . 1 }}{{ else }}{{ index . 2 }}{{ end -}}
{{- end -}}

{{- /*
  helm_lib_deployment_on_master_strategy_and_replicas_for_ha is for workloads on control plane nodes: one replica a
  node, at least two, at most three. Replicas keep apart, so a rollout must not need a spare node; a single replica
  is replaced only when the next one is ready.
*/ -}}
{{- define "helm_lib_deployment_on_master_strategy_and_replicas_for_ha" -}}
{{- $masters := int (dig "discovery" "clusterMasterCount" 3 .Values.global) -}}
{{- include "helm_lib_replicas_and_strategy" (list . (min 3 (max 2 $masters))) -}}
{{- end -}}

{{- /* helm_lib_deployment_strategy_and_replicas_for_ha is the same for workloads on any node: two replicas. */ -}}
{{- define "helm_lib_deployment_strategy_and_replicas_for_ha" -}}
{{- include "helm_lib_replicas_and_strategy" (list . 2) -}}
{{- end -}}

{{- define "helm_lib_replicas_and_strategy" -}}
{{- if include "helm_lib_ha_enabled" (index . 0) -}}
replicas: {{ index . 1 }}
strategy:
  type: RollingUpdate
  rollingUpdate:
    maxSurge: 0
    maxUnavailable: 1
{{- else -}}
replicas: 1
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_pod_anti_affinity_for_ha keeps replicas on different nodes. Only those of the same revision: the next one,
  which may be a single replica that keeps apart from nobody, must not wait for a node that none of the old ones is on.
  Usage: {{ include "helm_lib_pod_anti_affinity_for_ha" (list . (dict "app" "x")) }}
*/ -}}
{{- define "helm_lib_pod_anti_affinity_for_ha" -}}
{{- $context := index . 0 -}}
{{- if include "helm_lib_ha_enabled" $context -}}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
          {{- range $key, $value := index . 1 }}
            {{ $key }}: {{ $value | quote }}
          {{- end }}
        matchLabelKeys: ["pod-template-hash"]
{{- end -}}
{{- end -}}
