{{- /*
  helm_lib_module_public_domain prints the name under which a module is reached from outside.
  Usage: {{ include "helm_lib_module_public_domain" (list . "virtualization") }}
*/ -}}
{{- define "helm_lib_module_public_domain" -}}
{{- $context := index . 0 -}}
{{- $template := dig "modules" "publicDomainTemplate" "" $context.Values.global -}}
{{- if not (contains "%s" $template) -}}
{{- fail (printf "global.modules.publicDomainTemplate is %q: it has to hold %%s, where the name of the module goes" $template) -}}
{{- end -}}
{{- printf $template (index . 1) -}}
{{- end -}}

{{- /* helm_lib_module_ingress_class prints the class of the module's Ingresses, or nothing. */ -}}
{{- define "helm_lib_module_ingress_class" -}}
{{- $module := get .Values.AsMap (include "helm_lib_module_camelcase_name" .) -}}
{{- $module.ingressClass | default (dig "modules" "ingressClass" "" .Values.global) -}}
{{- end -}}

{{- /* helm_lib_module_https_mode prints CertManager, CustomCertificate, OnlyInURI or Disabled. */ -}}
{{- define "helm_lib_module_https_mode" -}}
{{- get (include "helm_lib_module_https" . | fromJson) "mode" | default "Disabled" -}}
{{- end -}}

{{- /* helm_lib_module_https prints, as JSON, the module's settings of HTTPS, and the global ones where it has none. */ -}}
{{- define "helm_lib_module_https" -}}
{{- $module := get .Values.AsMap (include "helm_lib_module_camelcase_name" .) -}}
{{- $module.https | default (dig "modules" "https" dict .Values.global) | toJson -}}
{{- end -}}

{{- /* helm_lib_module_uri_scheme prints what links to the module begin with. */ -}}
{{- define "helm_lib_module_uri_scheme" -}}
{{- if eq (include "helm_lib_module_https_mode" .) "Disabled" }}http{{ else }}https{{ end -}}
{{- end -}}

{{- /* helm_lib_module_https_ingress_tls_enabled prints "true" where the Ingress itself has a certificate, or nothing. */ -}}
{{- define "helm_lib_module_https_ingress_tls_enabled" -}}
{{- if has (include "helm_lib_module_https_mode" .) (list "CertManager" "CustomCertificate") }}true{{ end -}}
{{- end -}}

{{- /*
  helm_lib_module_https_secret_name prints the name of the Secret with the certificate of the Ingress.
  Usage: {{ include "helm_lib_module_https_secret_name" (list . "ingress-tls") }}
*/ -}}
{{- define "helm_lib_module_https_secret_name" -}}
{{- $mode := include "helm_lib_module_https_mode" (index . 0) -}}
{{- if eq $mode "CustomCertificate" -}}
{{ index . 1 }}-customcertificate
{{- else if eq $mode "CertManager" -}}
{{ index . 1 }}
{{- else -}}
{{- fail (printf "helm_lib_module_https_secret_name: there is no certificate where https.mode is %s" $mode) -}}
{{- end -}}
{{- end -}}

{{- /* helm_lib_module_https_cert_manager_cluster_issuer_name prints who issues certificates in the mode CertManager. */ -}}
{{- define "helm_lib_module_https_cert_manager_cluster_issuer_name" -}}
{{- dig "certManager" "clusterIssuerName" "letsencrypt" (include "helm_lib_module_https" . | fromJson) -}}
{{- end -}}

{{- /*
  helm_lib_module_https_copy_custom_certificate prints the copy of an administrator's certificate, in the mode
  CustomCertificate only: an Ingress can use no Secret of another namespace.
  Usage: {{ include "helm_lib_module_https_copy_custom_certificate" (list . "d8-virtualization" "ingress-tls") }}
*/ -}}
{{- define "helm_lib_module_https_copy_custom_certificate" -}}
{{- $context := index . 0 -}}
{{- if eq (include "helm_lib_module_https_mode" $context) "CustomCertificate" -}}
{{- $key := include "helm_lib_module_camelcase_name" $context -}}
{{- $certificate := dig $key "internal" "customCertificateData" dict $context.Values.AsMap -}}
{{- if not $certificate -}}
{{- fail (printf "no certificate: https.mode is CustomCertificate, but the namespace d8-system holds no Secret of the name in https.customCertificate.secretName (of ModuleConfig %s, or of the global settings)" $context.Chart.Name) -}}
{{- end -}}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "helm_lib_module_https_secret_name" (list $context (index . 2)) }}
  namespace: {{ index . 1 }}
  {{- include "helm_lib_module_labels" (list $context) | nindent 2 }}
type: kubernetes.io/tls
data:
{{- range $name, $value := $certificate }}
  {{ $name }}: {{ $value | b64enc }}
{{- end }}
{{- end -}}
{{- end -}}
