{{- define "seckill.labels" -}}
app.kubernetes.io/name: seckill
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "seckill.image" -}}
{{ .root.Values.image.repository }}:{{ .part.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Settings as they are, secrets as the files that they are mounted at. */}}
{{- define "seckill.env" -}}
{{- range $name, $value := merge (dict) (.part.settings | default dict) .root.Values.settings }}
{{- if ne (toString $value) "" }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $from := merge (dict) .part.secrets .root.Values.secrets }}
- name: {{ $name }}_FILE
  value: /run/secrets/seckill/{{ $name }}
{{- end }}
{{- end }}

{{- define "seckill.mounts" -}}
- name: secrets
  mountPath: /run/secrets/seckill
  readOnly: true
{{- range .root.Values.certificates }}
- name: certificates-{{ . }}
  mountPath: /etc/seckill/{{ . }}
  readOnly: true
{{- end }}
{{- end }}

{{/* 288 is 0440: in octal it would be a number to some readers of YAML and a text to others. */}}
{{- define "seckill.volumes" -}}
- name: secrets
  projected:
    defaultMode: 288
    sources:
      {{- range $name, $from := merge (dict) .part.secrets .root.Values.secrets }}
      - secret:
          name: {{ $from.name }}
          items: [{ key: {{ $from.key | quote }}, path: {{ $name }} }]
      {{- end }}
{{- range .root.Values.certificates }}
- name: certificates-{{ . }}
  secret: { secretName: {{ . }}, defaultMode: 288 }
{{- end }}
{{- end }}

{{- define "seckill.pod" -}}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "seckill.container" -}}
image: {{ include "seckill.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* The services with their ports. */}}
{{- define "seckill.ports" -}}
ingress: { admin: 8081, public: 8080 }
projector: { admin: 8082 }
timeout: { admin: 8083 }
{{- end }}
