{{- /*
Numbers of a values file come as floats, which print writes as 1e+06. rouse.number writes them as people do, rouse.text also
in quotes, and rouse.refuse ends with an error where a number is not what stood in the file: 1.10 comes as 1.1, and 0123 as 83.
*/ -}}

{{- define "rouse.number" -}}
{{- if eq (printf "%T" .) "float64" }}{{ printf "%.15g" . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "rouse.text" -}}
{{- if eq (printf "%T" .) "float64" }}{{ printf "%.15g" . | printf "%q" }}{{ else }}{{ print . | printf "%q" }}{{ end }}
{{- end }}

{{- define "rouse.refuse" -}}
{{- range $section, $values := . }}
{{- if or (eq $section "image") (eq $section "token") (eq $section "reports") }}
{{- range $key, $value := $values }}
{{- $type := printf "%T" $value }}
{{- if or (eq $type "float64") (eq $type "json.Number") }}
{{- fail (printf "%s.%s = %v is a number, and has to be a text: put it in quotes, or give it by --set-string %s.%s=…" $section $key $value $section $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
