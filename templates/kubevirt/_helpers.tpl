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
