{{- /*
Everything the operator may do in the namespaces it watches, in one place. A test compares this
list with the API server's audit log: a verb that is not used does not belong here.
*/ -}}
{{- define "starforge-backlog.rules" -}}
# The policies themselves. patch: kopf's finalizer and annotations.
- apiGroups: [backlog.starforge.dev]
  resources: [queuebacklogpolicies]
  verbs: [get, list, watch, patch]
- apiGroups: [backlog.starforge.dev]
  resources: [queuebacklogpolicies/status]
  verbs: [patch]
# Secrets and ConfigMaps that a policy or its target's pods refer to, each by its name.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
  {{- with .Values.rbac.secretNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- with .Values.rbac.configMaps }}
{{- if .read }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}
# The target's pods: ready, pending, crash-looping, terminating.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Whose a pod is: the controller of its ReplicaSet.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
# Targets. replicas are written through the scale subresource, nothing else of a target is.
{{- with .Values.rbac.deployments }}
{{- if .scale }}
{{ include "starforge-backlog.scaleRules" (dict "apiGroup" "apps" "resource" "deployments" "names" .names) }}
{{- end }}
{{- end }}
{{- with .Values.rbac.statefulSets }}
{{- if .scale }}
{{ include "starforge-backlog.scaleRules" (dict "apiGroup" "apps" "resource" "statefulsets" "names" .names) }}
{{- end }}
{{- end }}
{{- range .Values.rbac.extraScaleTargets }}
{{ include "starforge-backlog.scaleRules" (dict "apiGroup" .apiGroup "resource" .resource "names" .names "readScale" true) }}
{{- end }}
{{- with .Values.rbac.producers }}
{{- $kinds := list
  (dict "apiGroup" "" "resource" "configmaps" "given" .configMaps)
  (dict "apiGroup" "apps" "resource" "deployments" "given" .deployments)
  (dict "apiGroup" "apps" "resource" "statefulsets" "given" .statefulSets)
  (dict "apiGroup" "batch" "resource" "cronjobs" "given" .cronJobs) }}
{{- range $kinds }}
{{- if .given.pause }}
# Producers. The field that pauses and the mark that says whose pause it is are one write.
{{ include "starforge-backlog.namedRule" (dict "apiGroup" .apiGroup "resource" .resource "verbs" "[get, patch]" "names" .given.names) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.rbac.autoscalers }}
{{- $kinds := list
  (dict "apiGroup" "autoscaling" "resource" "horizontalpodautoscalers" "given" .horizontalPodAutoscalers)
  (dict "apiGroup" "keda.sh" "resource" "scaledobjects" "given" .scaledObjects) }}
{{- range $kinds }}
{{- if .given.detect }}
# Who else scales a target.
{{ include "starforge-backlog.namedRule" (dict "apiGroup" .apiGroup "resource" .resource "verbs" "[list]" "names" list) }}
{{- end }}
{{- if .given.guard }}
# The maximum that guardrail mode lowers and restores. watch: a write by another client is noticed at once.
{{ include "starforge-backlog.namedRule" (dict "apiGroup" .apiGroup "resource" .resource "verbs" "[get, watch, patch]" "names" .given.names) }}
{{- end }}
{{- end }}
{{- if .scaledObjects.guard }}
# KEDA's own HorizontalPodAutoscaler of a guarded ScaledObject is lowered with it.
{{- $names := list }}
{{- range .scaledObjects.names }}
{{- $names = append $names (printf "keda-hpa-%s" .) }}
{{- end }}
{{- /* hpaNames adds to names; alone it would narrow what names leaves open. */}}
{{- if $names }}
{{- $names = concat $names (.scaledObjects.hpaNames | default list) }}
{{- end }}
{{ include "starforge-backlog.namedRule" (dict "apiGroup" "autoscaling" "resource" "horizontalpodautoscalers" "verbs" "[get, patch]" "names" $names) }}
{{- end }}
{{- end }}
# One Event per transition.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- /*
A workload that is scaled. Of Deployments and StatefulSets the object itself has the scale; of
other kinds the scale has to be read as well.
*/ -}}
{{- define "starforge-backlog.scaleRules" -}}
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ .resource }}]
  verbs: [get]
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ .resource }}/scale]
  verbs: {{ ternary "[get, patch]" "[patch]" (.readScale | default false) }}
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}

{{- /* Verbs on one resource, narrowed to names where there are any. */ -}}
{{- define "starforge-backlog.namedRule" -}}
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ .resource }}]
  verbs: {{ .verbs }}
  {{- with .names }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}
