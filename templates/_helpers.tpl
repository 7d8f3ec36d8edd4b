{{- /* virtualization.namespace is where everything of the module lives. */ -}}
{{- define "virtualization.namespace" -}}d8-virtualization{{- end -}}

{{- /* virtualization.registry_secret is the name of the pull secret of the module's images. */ -}}
{{- define "virtualization.registry_secret" -}}virtualization-module-registry{{- end -}}

{{- /* virtualization.image_pull_secrets prints the pull secrets of a pod. */ -}}
{{- define "virtualization.image_pull_secrets" -}}
imagePullSecrets:
  - name: {{ include "virtualization.registry_secret" . }}
{{- end -}}

{{- /* virtualization.log_args prints the flags that every binary of ours has for its logs. */ -}}
{{- define "virtualization.log_args" -}}
- --log-level={{ .Values.virtualization.logLevel | default "info" }}
- --log-format={{ .Values.virtualization.logFormat | default "text" }}
{{- end -}}

{{- /*
  virtualization.health_probes prints both probes of a container.
  A component that waits for a lease or an informer is not ready, but must not be killed for it.
    port     name or number of the port
    host     address, for pods on the node's network
    scheme   HTTPS, for those that serve health beside what they serve to others
    live     path that says whether the process works, /healthz unless given
  Usage: {{ include "virtualization.health_probes" (dict "port" "health") }}
*/ -}}
{{- define "virtualization.health_probes" -}}
livenessProbe:
  httpGet:
    path: {{ .live | default "/healthz" }}
    {{- include "virtualization.health_target" . | nindent 4 }}
  initialDelaySeconds: 5
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    {{- include "virtualization.health_target" . | nindent 4 }}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{- define "virtualization.health_target" -}}
port: {{ .port }}
{{- with .host }}
host: {{ . }}
{{- end }}
{{- with .scheme }}
scheme: {{ . }}
{{- end }}
{{- end -}}

{{- /*
  virtualization.late_farewell prints the lifecycle of a container that the API server sends requests to. It does so for
  a moment after the pod was told to end, until every node knows that the pod is no longer behind its Service; a program
  that ends at once refuses those, whatever other replicas there are.
*/ -}}
{{- define "virtualization.late_farewell" -}}
lifecycle:
  preStop:
    sleep:
      seconds: 3
{{- end -}}

{{- /*
  virtualization.tls_secret prints a Secret with a certificate that a hook made.
  The hook reads it back at its next run, so the keys must hold exactly what the hook gave.
  Usage: {{ include "virtualization.tls_secret" (list . "dvcr-tls" "dvcr" .Values.virtualization.internal.dvcr.cert) }}
*/ -}}
{{- define "virtualization.tls_secret" -}}
{{- $context := index . 0 -}}
{{- $cert := index . 3 -}}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ index . 1 }}
  namespace: {{ include "virtualization.namespace" $context }}
  {{- include "helm_lib_module_labels" (list $context (dict "app" (index . 2))) | nindent 2 }}
type: kubernetes.io/tls
data:
  ca.crt: {{ $cert.ca | b64enc }}
  tls.crt: {{ $cert.crt | b64enc }}
  tls.key: {{ $cert.key | b64enc }}
{{- end -}}

{{- /* virtualization.dvcr_address is the name under which pods reach the registry. */ -}}
{{- define "virtualization.dvcr_address" -}}
dvcr.{{ include "virtualization.namespace" . }}.svc
{{- end -}}

{{- /* virtualization.upload_host is the name under which images are uploaded from outside; nothing where the platform has no public domain. */ -}}
{{- define "virtualization.upload_host" -}}
{{- if dig "modules" "publicDomainTemplate" "" .Values.global -}}
{{- include "helm_lib_module_public_domain" (list . .Chart.Name) -}}
{{- end -}}
{{- end -}}

{{- /* virtualization.storage_class_args prints what the settings say about the classes of a kind: disk or image. */ -}}
{{- define "virtualization.storage_class_args" -}}
{{- $settings := index . 0 | default dict -}}
{{- $kind := index . 1 -}}
{{- with $settings.defaultStorageClassName }}
- --default-{{ $kind }}-storage-class={{ . }}
{{- end }}
{{- with dig "allowedStorageClassSelector" "matchNames" list $settings }}
- --allowed-{{ $kind }}-storage-classes={{ join "," . }}
{{- end }}
{{- end -}}

{{- /* virtualization.upload_args prints how uploads come from outside. */ -}}
{{- define "virtualization.upload_args" -}}
{{- with include "virtualization.upload_host" . }}
- --upload-ingress-host={{ . }}
- --upload-ingress-scheme={{ include "helm_lib_module_uri_scheme" $ }}
{{- with include "helm_lib_module_ingress_class" $ }}
- --upload-ingress-class={{ . }}
{{- end }}
{{- if include "helm_lib_module_https_ingress_tls_enabled" $ }}
- --upload-ingress-tls-secret={{ include "helm_lib_module_https_secret_name" (list $ "upload-tls") }}
{{- end }}
{{- end }}
{{- end -}}
