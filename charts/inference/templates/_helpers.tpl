{{/* Name in the labels. */}}
{{- define "inference.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end }}

{{/* Name of the resources. */}}
{{- define "inference.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "inference.name" .) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "inference.name" .) -}}
{{- end -}}
{{- end }}

{{- define "inference.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "inference.fullname" .) -}}
{{- end }}

{{/* What selects pods. Selectors cannot be changed in a cluster, so these lines never change. */}}
{{- define "inference.selector" -}}
app.kubernetes.io/name: {{ include "inference.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of resources. Pods have no version: it would restart them when only the chart changes. */}}
{{- define "inference.labels" -}}
{{ include "inference.selector" . }}
app.kubernetes.io/part-of: {{ include "inference.name" . | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | trimAll "-_." | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_." | quote }}
{{- end }}

{{/* Image reference. Takes root, path (of the image in the values) and image. */}}
{{- define "inference.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- if not $registry -}}
{{- fail "image.registry is empty: set it to the registry that the images were uploaded to" -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s/%s@%s" $registry .image.name .image.digest -}}
{{- else if .image.tag -}}
{{- printf "%s/%s:%s" $registry .image.name .image.tag -}}
{{- else -}}
{{- fail (printf "%s.tag and %s.digest are empty: a bundle's chart has the tag preset; with the chart of a source tree, set one of them" .path .path) -}}
{{- end -}}
{{- end }}

{{/* Security context of a container. Takes readOnlyRootFilesystem. */}}
{{- define "inference.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: ["ALL"]
readOnlyRootFilesystem: {{ . }}
{{- end }}

{{/* Resources of a model server: those of its values, with the GPUs and the disk. Takes the model. */}}
{{- define "inference.serverResources" -}}
{{- $gpus := int .gpus -}}
{{- $chart := dict "limits" (dict "nvidia.com/gpu" $gpus) "requests" (dict "nvidia.com/gpu" $gpus) -}}
{{- $disk := dict -}}
{{- with .storageBytes -}}
{{- $disk = dict "requests" (dict "ephemeral-storage" (int64 . | toString)) -}}
{{- end -}}
{{- merge $chart (deepCopy (.resources | default dict)) $disk | toYaml -}}
{{- end }}

{{/* Name of the ConfigMap with the certificate authorities; empty if there is none. */}}
{{- define "inference.caConfigMap" -}}
{{- if .Values.caBundle.pem -}}
{{- include "inference.fullname" . }}-ca
{{- else -}}
{{- .Values.caBundle.configMapName -}}
{{- end -}}
{{- end }}

{{/* Stops with one clear line where values contradict each other. The schema checks them one by one. */}}
{{- define "inference.validate" -}}
{{- $fullname := include "inference.fullname" . -}}
{{- if not .Values.models -}}
{{- fail "models is empty: name at least one model" -}}
{{- end -}}
{{- if and .Values.caBundle.pem .Values.caBundle.configMapName -}}
{{- fail "caBundle.pem and caBundle.configMapName are both set: give one of them" -}}
{{- end -}}
{{- if ge (int .Values.preStopSleepSeconds) (int .Values.terminationGracePeriodSeconds) -}}
{{- fail "preStopSleepSeconds must be less than terminationGracePeriodSeconds, which it is a part of" -}}
{{- end -}}
{{- if and .Values.release.manifestSha256 (not .Values.release.manifest) -}}
{{- fail "release.manifestSha256 is set but release.manifest is empty: give the manifest's s3:// URL" -}}
{{- end -}}
{{- if and .Values.release.manifest (not .Values.release.manifestSha256) -}}
{{- fail "release.manifest is set but release.manifestSha256 is empty: nothing would be verified" -}}
{{- end -}}
{{- if and .Values.checkpointVolume.nodeCache (not .Values.release.manifestSha256) -}}
{{- fail "checkpointVolume.nodeCache is set but release.manifestSha256 is empty: nothing in the cache could be proven" -}}
{{- end -}}
{{- $hosts := dict -}}
{{- if and .Values.docs.enabled .Values.docs.ingressHost -}}
{{- $_ := set $hosts .Values.docs.ingressHost "docs" -}}
{{- end -}}
{{- range $key, $model := .Values.models -}}
{{- $path := printf "models.%s" $key -}}
{{- if gt (len (printf "%s-%s" $fullname $key)) 63 -}}
{{- fail (printf "%s: the name %s-%s is longer than 63 characters: choose a shorter key or fullnameOverride" $path $fullname $key) -}}
{{- end -}}
{{- if and $.Values.docs.enabled (eq $key "docs") -}}
{{- fail "models.docs: that name belongs to the documentation site: choose another key" -}}
{{- end -}}
{{- if and $.Values.ingress.enabled (not $model.ingressHost) -}}
{{- fail (printf "%s.ingressHost is empty but ingress.enabled is true: give each model its own host" $path) -}}
{{- end -}}
{{- with $model.ingressHost -}}
{{- if hasKey $hosts . -}}
{{- fail (printf "%s.ingressHost and %s.ingressHost are both %q: give each its own host" (get $hosts .) $path .) -}}
{{- end -}}
{{- $_ := set $hosts . $path -}}
{{- end -}}
{{- if and $.Values.release.manifestSha256 (not $model.checkpoint) -}}
{{- fail (printf "%s.checkpoint is empty but release.manifestSha256 is set: name the checkpoint as in the manifest" $path) -}}
{{- end -}}
{{- range $model.args -}}
{{- if regexMatch "^--(model|served-model-name|host|port|api-key)(=|$)" . -}}
{{- fail (printf "%s.args: %s is set by the chart: use model, modelName and authentication" $path (regexFind "^--[a-z-]+" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
