{{- /*
  virtualization.rbacv2_new_scheme tells which of its role models the platform has: since 1.78 capabilities, before that
  use and manage. A build without a number gets the newer one. In the wrong model capabilities are of no effect, while
  what is to be used in a namespace would hold in the whole cluster.
  The name is the one that Deckhouse's linter knows such a question by.
*/ -}}
{{- define "virtualization.rbacv2_new_scheme" -}}
{{- $version := .Values.global.deckhouseVersion | default "" | toString | trimPrefix "v" -}}
{{- with regexFind "^[0-9]+[.][0-9]+" $version -}}
{{- semverCompare ">= 1.78" (printf "%s.0" .) -}}
{{- else -}}
true
{{- end -}}
{{- end -}}

{{- /* virtualization.rbacv2_texts prints the title and the description of a role, which the platform's console shows. */ -}}
{{- define "virtualization.rbacv2_texts" -}}
{{- $texts := index . 0 -}}
en.meta.deckhouse.io/title: {{ index $texts 0 | quote }}
ru.meta.deckhouse.io/title: {{ index $texts 1 | quote }}
en.meta.deckhouse.io/description: {{ index $texts 2 | quote }}
ru.meta.deckhouse.io/description: {{ index $texts 3 | quote }}
{{- end -}}

{{- /* virtualization.rbacv2_renamed prints what a role under its older name says of the one that has come for it. */ -}}
{{- define "virtualization.rbacv2_renamed" -}}
{{- $name := index . 0 -}}
{{- $successor := index . 1 -}}
{{- include "virtualization.rbacv2_texts" (list (list
  (printf "Former name: %s" $name)
  (printf "Прежнее имя: %s" $name)
  (printf "Kept for bindings that were made before Deckhouse 1.78; new ones are to name %s." $successor)
  (printf "Сохранена для привязок, созданных до Deckhouse 1.78; в новых указывайте %s." $successor))) }}
rbac.deckhouse.io/deprecated-replaced-by: {{ $successor }}
{{- end -}}
