{{- /*
  virtualization.network_policy prints who may open connections to the pods of one component. Everything that no
  policy names is closed by templates/network-policy.yaml. Egress is left alone: importers go wherever images are, and
  refuse what the settings refuse themselves.

    everyone     ports for callers that a NetworkPolicy has no words for: kube-apiserver, containerd and Ingress
                 controllers use the addresses of nodes, which Cilium takes for no IP block. Each of these ports
                 asks its callers for a certificate or a token
    monitoring   ports with metrics

  kubelet's probes need no rule: a pod's own node may always reach it.
  Usage: {{ include "virtualization.network_policy" (list . "dvcr" (dict "app" "dvcr") (dict "everyone" (list 5000))) }}
*/ -}}
{{- define "virtualization.network_policy" -}}
{{- $context := index . 0 -}}
{{- $ports := index . 3 -}}
{{ include "virtualization.network_policy_head" (list $context (index . 1) (index . 2)) }}
  ingress:
    {{- with $ports.everyone }}
    - ports:
        {{- include "virtualization.network_policy_ports" . | nindent 8 }}
    {{- end }}
    {{- with $ports.monitoring }}
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: d8-monitoring
      ports:
        {{- include "virtualization.network_policy_ports" . | nindent 8 }}
    {{- end }}
{{- end -}}

{{- /* virtualization.network_policy_head is a policy up to its rules. */ -}}
{{- define "virtualization.network_policy_head" -}}
{{- $context := index . 0 -}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ index . 1 }}
  namespace: {{ include "virtualization.namespace" $context }}
  {{- include "helm_lib_module_labels" (list $context (dict "app" (index . 1))) | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- toYaml (index . 2) | nindent 6 }}
  policyTypes:
    - Ingress
{{- end -}}

{{- define "virtualization.network_policy_ports" -}}
{{- range . }}
- port: {{ . }}
  protocol: TCP
{{- end }}
{{- end -}}
