{{- /* helm_lib_module_pod_security_context_run_as_user_deckhouse runs a pod as the platform's own user. */ -}}
{{- define "helm_lib_module_pod_security_context_run_as_user_deckhouse" -}}
securityContext:
  fsGroup: 64535
  runAsGroup: 64535
  runAsNonRoot: true
  runAsUser: 64535
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /* helm_lib_module_pod_security_context_run_as_user_root is for the few pods that act upon their node. */ -}}
{{- define "helm_lib_module_pod_security_context_run_as_user_root" -}}
securityContext:
  runAsGroup: 0
  runAsNonRoot: false
  runAsUser: 0
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /* helm_lib_module_container_security_context_read_only_root_filesystem_capabilities_drop_all is the usual, restricted one. */ -}}
{{- define "helm_lib_module_container_security_context_read_only_root_filesystem_capabilities_drop_all" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
      - ALL
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /*
  helm_lib_module_container_security_context_read_only_root_filesystem_capabilities_drop_all_and_add gives some back.
  Usage: {{ include "..._and_add" (list . (list "NET_ADMIN")) }}
*/ -}}
{{- define "helm_lib_module_container_security_context_read_only_root_filesystem_capabilities_drop_all_and_add" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    add:
    {{- range index . 1 }}
      - {{ . }}
    {{- end }}
    drop:
      - ALL
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
{{- end -}}
