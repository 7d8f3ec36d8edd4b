{{- /* virtualization.cdi_version is the release that third_party/cdi pins. */ -}}
{{- define "virtualization.cdi_version" -}}v1.65.0{{- end -}}
