{{- /*
  helm_lib_node_selector prints where a workload may run.
    any-node, wildcard   everywhere
    master               control plane nodes; where the cluster has none of its own, those of the system
    system, frontend,
    monitoring           nodes that an administrator dedicated to it, everywhere while there are none
  Usage: {{ include "helm_lib_node_selector" (tuple . "system") }}
*/ -}}
{{- define "helm_lib_node_selector" -}}
{{- $context := index . 0 -}}
{{- $strategy := index . 1 -}}
{{- $counts := dig "discovery" "d8SpecificNodeCountByRole" dict $context.Values.global -}}
{{- if and (eq $strategy "master") (eq (int (dig "discovery" "clusterMasterCount" 1 $context.Values.global)) 0) -}}
{{- $strategy = "system" -}}
{{- end -}}
{{- if eq $strategy "master" -}}
nodeSelector:
  node-role.kubernetes.io/control-plane: ""
{{- else if has $strategy (list "system" "frontend" "monitoring") -}}
{{- if gt (int (get $counts $context.Chart.Name | default 0)) 0 -}}
nodeSelector:
  node-role.deckhouse.io/{{ $context.Chart.Name }}: ""
{{- else if gt (int (get $counts $strategy | default 0)) 0 -}}
nodeSelector:
  node-role.deckhouse.io/{{ $strategy }}: ""
{{- end -}}
{{- else if not (has $strategy (list "any-node" "wildcard")) -}}
{{- fail (printf "helm_lib_node_selector: unknown strategy %q" $strategy) -}}
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_tolerations prints the taints a workload bears.
    wildcard             every taint
    any-node             dedicated and control plane nodes. Not those in trouble: a pod that bears these for ever stays on a node
                         that is gone, and comes back to one that is being drained. Kubernetes itself lets those of a
                         DaemonSet stay there
    master               the same: control plane nodes are found by the node selector
    system, frontend,
    monitoring           nodes dedicated to that role or to the module
*/ -}}
{{- define "helm_lib_tolerations" -}}
{{- $context := index . 0 -}}
{{- $strategy := index . 1 -}}
{{- if eq $strategy "wildcard" -}}
tolerations:
  - operator: Exists
{{- else if has $strategy (list "any-node" "master") -}}
tolerations:
  - key: node-role.kubernetes.io/control-plane
    operator: Exists
  - key: node-role.kubernetes.io/master
    operator: Exists
  - key: dedicated.deckhouse.io
    operator: Exists
  - key: dedicated
    operator: Exists
  - key: DeletionCandidateOfClusterAutoscaler
    operator: Exists
  - key: ToBeDeletedByClusterAutoscaler
    operator: Exists
{{- else if has $strategy (list "system" "frontend" "monitoring") -}}
tolerations:
  - key: dedicated.deckhouse.io
    operator: Equal
    value: {{ $context.Chart.Name | quote }}
  - key: dedicated.deckhouse.io
    operator: Equal
    value: {{ $strategy | quote }}
{{- else -}}
{{- fail (printf "helm_lib_tolerations: unknown strategy %q" $strategy) -}}
{{- end -}}
{{- end -}}

{{- /*
  helm_lib_priority_class prints the priority of a workload.
  Usage: {{ include "helm_lib_priority_class" (tuple . "system-cluster-critical") }}
*/ -}}
{{- define "helm_lib_priority_class" -}}
priorityClassName: {{ index . 1 }}
{{- end -}}
