{{- /*
  virtualization.pod_monitor prints what the platform's Prometheus scrapes of one component. It has the monitor beside
  its own, because the token that it identifies itself with is there.

    job      the label job, by which rules know the component
    labels   the pods
    port     the name of the port; "metrics" if it is not given
    plain    no TLS. Without it a server is not verified, as everywhere in the platform: no certificate names a pod
    token    the server asks who scrapes
    perNode  the label node is that of the pod; elsewhere it would get into metrics of nodes that it has nothing to do with

  Metrics tell about objects of users: their namespace and pod win over those of the component, and what a metric does
  not say itself must not be taken from the component either.
  Usage: {{ include "virtualization.pod_monitor" (list . (dict "job" "dvcr" "labels" (dict "app" "dvcr") "plain" true)) }}
*/ -}}
{{- define "virtualization.pod_monitor" -}}
{{- $context := index . 0 -}}
{{- $monitor := index . 1 -}}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: virtualization-{{ $monitor.job | trimPrefix "virtualization-" }}
  namespace: d8-monitoring
  {{- include "helm_lib_module_labels" (list $context (dict "app" $monitor.job "prometheus" "main")) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- toYaml $monitor.labels | nindent 6 }}
  namespaceSelector:
    matchNames:
      - {{ include "virtualization.namespace" $context }}
  podMetricsEndpoints:
    - port: {{ $monitor.port | default "metrics" }}
      path: /metrics
      {{- if $monitor.plain }}
      scheme: http
      {{- else }}
      scheme: https
      tlsConfig:
        insecureSkipVerify: true
      {{- end }}
      {{- if $monitor.token }}
      bearerTokenSecret:
        name: prometheus-token
        key: token
      {{- end }}
      honorLabels: true
      relabelings:
        # A pod that has ended keeps its address for a while.
        - action: drop
          sourceLabels: [__meta_kubernetes_pod_phase]
          regex: Succeeded|Failed
        - action: labeldrop
          regex: namespace|container|endpoint
        - targetLabel: job
          replacement: {{ $monitor.job }}
        - targetLabel: tier
          replacement: cluster
        # What the platform scrapes itself: its rules tell it from metrics of users that have the same names by this label.
        - targetLabel: d8_source
          replacement: dkp
        {{- if $monitor.perNode }}
        - targetLabel: node
          sourceLabels: [__meta_kubernetes_pod_node_name]
        {{- end }}
{{- end -}}
