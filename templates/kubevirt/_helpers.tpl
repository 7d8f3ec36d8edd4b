{{- /* virtualization.kubevirt_version is the release that third_party/kubevirt pins. */ -}}
{{- define "virtualization.kubevirt_version" -}}v1.8.4{{- end -}}

{{- /* virtualization.engine_verbosity turns the module's log level into klog's numbers. */ -}}
{{- define "virtualization.engine_verbosity" -}}
{{- get (dict "debug" "4" "info" "2" "warn" "1" "error" "1") (.Values.virtualization.logLevel | default "info") -}}
{{- end -}}

{{- /* virtualization.migrations prints the limits of live migrations, with the defaults of the settings' schema. */ -}}
{{- define "virtualization.migrations" -}}
{{- $limits := .Values.virtualization.liveMigration | default dict -}}
parallelMigrationsPerCluster: {{ $limits.maxMigrationsPerCluster | default 5 }}
parallelOutboundMigrationsPerNode: {{ $limits.maxMigrationsPerNode | default 2 }}
bandwidthPerMigration: {{ $limits.bandwidthPerMigration | default "0" | quote }}
completionTimeoutPerGiB: {{ $limits.completionTimeoutPerGiB | default 150 }}
progressTimeout: {{ $limits.progressTimeout | default 150 }}
{{- end -}}

{{- define "virtualization.virt_handler_emulation_patch" -}}
{{- $env := list
  (dict "name" "PREFERRED_VIRTTYPE" "value" "qemu")
  (dict "name" "HYPERVISOR_DEVICE" "value" "no-kvm")
-}}
{{- $pod := dict "spec" (dict "initContainers" (list (dict "name" "virt-launcher" "env" $env))) -}}
{{- dict "spec" (dict "template" $pod) | toJson -}}
{{- end -}}

{{- /*
  virtualization.virt_handler_security_patch makes virt-handler's pods name their exception from the platform's standard
  for pods, and say of every container what the standard asks for. What a privileged one drops is of no effect, but an
  exception can only be made for one that drops something; the container that holds an image is restricted for real.
*/ -}}
{{- define "virtualization.virt_handler_security_patch" -}}
{{- $privileged := dict "allowPrivilegeEscalation" true "runAsNonRoot" false "runAsUser" 0 "capabilities" (dict "drop" (list "SYS_BOOT")) -}}
{{- $restricted := dict "allowPrivilegeEscalation" false "runAsNonRoot" true "runAsUser" 64535 "capabilities" (dict "drop" (list "ALL")) -}}
{{- $pod := dict
  "securityContext" (dict "seccompProfile" (dict "type" "RuntimeDefault"))
  "initContainers" (list (dict "name" "virt-launcher" "securityContext" $privileged))
  "containers" (list
    (dict "name" "virt-handler" "securityContext" $privileged)
    (dict "name" "virt-launcher-image-holder" "securityContext" $restricted))
-}}
{{- $labels := dict "security.deckhouse.io/security-policy-exception" "virt-handler" -}}
{{- dict "spec" (dict "template" (dict "metadata" (dict "labels" $labels) "spec" $pod)) | toJson -}}
{{- end -}}
