{{- /*
  helm_lib_module_documentation_uri prints the address of a page of the documentation: in the cluster, where it has a site of
  its own, which is also there where nobody reaches the Internet, or else on the public site. The site in the cluster has
  settings of its own, so that those of the module for HTTPS say nothing about it.
  Usage: {{ include "helm_lib_module_documentation_uri" (list . "/modules/virtualization/stable/") }}
*/ -}}
{{- define "helm_lib_module_documentation_uri" -}}
{{- $context := index . 0 -}}
{{- $global := $context.Values.global -}}
{{- $enabled := has "documentation" ($global.enabledModules | default list) -}}
{{- if and $enabled (dig "modules" "publicDomainTemplate" "" $global) -}}
{{- $mode := dig "modules" "https" "mode" "Disabled" $global -}}
{{- $scheme := eq $mode "Disabled" | ternary "http" "https" -}}
{{- printf "%s://%s%s" $scheme (include "helm_lib_module_public_domain" (list $context "documentation")) (index . 1) -}}
{{- else -}}
{{- print "https://deckhouse.io" (index . 1) -}}
{{- end -}}
{{- end -}}
