package inject

import (
	"strconv"

	"github.com/rousehq/rouse/internal/config"
)

// The shapes of Kubernetes that a sidecar is made of. Quantities are texts; nothing here interprets them.
type (
	container struct {
		Name            string                       `yaml:"name"`
		Image           string                       `yaml:"image"`
		RestartPolicy   string                       `yaml:"restartPolicy"`
		Ports           []containerPort              `yaml:"ports"`
		Env             []envVar                     `yaml:"env"`
		Lifecycle       lifecycle                    `yaml:"lifecycle"`
		ReadinessProbe  probe                        `yaml:"readinessProbe"`
		Resources       map[string]map[string]string `yaml:"resources"`
		SecurityContext map[string]any               `yaml:"securityContext"`
		VolumeMounts    []volumeMount                `yaml:"volumeMounts,omitempty"`
	}
	containerPort struct {
		Name     string `yaml:"name"`
		Port     int    `yaml:"containerPort"`
		Protocol string `yaml:"protocol"`
	}
	envVar struct {
		Name      string     `yaml:"name"`
		Value     *string    `yaml:"value,omitempty"`
		ValueFrom *valueFrom `yaml:"valueFrom,omitempty"`
	}
	valueFrom struct {
		FieldRef struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
	}
	lifecycle struct {
		PreStop handler `yaml:"preStop"`
	}
	handler struct {
		HTTPGet httpGet `yaml:"httpGet"`
	}
	httpGet struct {
		Path    string   `yaml:"path"`
		Port    int      `yaml:"port"`
		Headers []header `yaml:"httpHeaders,omitempty"`
	}
	header struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	}
	probe struct {
		HTTPGet             httpGet `yaml:"httpGet"`
		InitialDelaySeconds int     `yaml:"initialDelaySeconds,omitempty"`
		PeriodSeconds       int     `yaml:"periodSeconds"`
		TimeoutSeconds      int     `yaml:"timeoutSeconds"`
		FailureThreshold    int     `yaml:"failureThreshold,omitempty"`
		SuccessThreshold    int     `yaml:"successThreshold,omitempty"`
	}
	volumeMount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
)

// The token's volume and its place.
const (
	tokenVolume = "rouse-stats-token"
	tokenDir    = "/var/run/secrets/rouse.dev"
	tokenFile   = "token"
	tokenLife   = 3600 // seconds; kubelet renews it in time
)

// plan is everything that was found out about a pod.
type plan struct {
	revision string
	service  string
	app      app
	ports    PortSet
	config   *config.Revision
	sizes    sizes
	kept     field // the resources of a sidecar that is there
	probe    readiness
	rootPod  bool // the pod runs as root unless a container says otherwise
	options  Options
}

// imageUser is who the image runs as.
const imageUser = 65532

// sidecar makes the container.
func (p *plan) sidecar() container {
	c := container{
		Name: ContainerName, Image: p.options.Image, RestartPolicy: "Always",
		Ports:          p.ports.list(),
		Env:            p.env(),
		Lifecycle:      lifecycle{PreStop: handler{HTTPGet: httpGet{Path: "/drain", Port: p.ports.Admin}}},
		ReadinessProbe: p.probe.kubelet(p.ports.Serving),
		Resources:      p.sizes.resources(p.options.Sizes, p.kept),
		SecurityContext: map[string]any{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
			"capabilities": map[string]any{"drop": []string{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
		},
	}
	if p.rootPod {
		c.SecurityContext["runAsUser"] = imageUser
	}
	if p.options.TokenAudience != "" {
		c.VolumeMounts = []volumeMount{{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true}}
	}
	return c
}

// env is the contract of docs/queue-proxy.md. Ports that stay at their defaults are not said.
func (p *plan) env() []envVar {
	seconds := func(v config.Value[int]) string { return strconv.Itoa(v.V) }
	all := []envVar{
		plain("CONTAINER_CONCURRENCY", seconds(p.config.ContainerConcurrency)),
		plain("QUEUE_SERVING_PORT", strconv.Itoa(p.ports.Serving)),
		plain("USER_PORT", strconv.Itoa(p.app.port)),
		plain("REVISION_TIMEOUT_SECONDS", strconv.Itoa(int(p.config.Timeout.V.Seconds()))),
		plain("ROUSE_WHOLE_TIMEOUT", "true"),
		plain("REVISION_RESPONSE_START_TIMEOUT_SECONDS", strconv.Itoa(int(p.config.ResponseStartTimeout.V.Seconds()))),
		plain("REVISION_IDLE_TIMEOUT_SECONDS", strconv.Itoa(int(p.config.IdleTimeout.V.Seconds()))),
		plain("SERVING_READINESS_PROBE", p.probe.json),
		fromField("SERVING_NAMESPACE", "metadata.namespace"),
		plain("SERVING_SERVICE", p.service),
		plain("SERVING_CONFIGURATION", p.revision),
		plain("SERVING_REVISION", p.revision),
		fromField("SERVING_POD", "metadata.name"),
		fromField("SERVING_POD_IP", "status.podIP"),
	}
	if p.probe.paced {
		all = append(all, plain("ROUSE_READINESS_PACED", "true"))
	}
	if p.app.h2c {
		all = append(all, plain("ROUSE_USER_PROTOCOL", "h2c"))
	}
	d := defaultPorts()
	for _, port := range []struct {
		name      string
		at, usual int
	}{{"ROUSE_ADMIN_PORT", p.ports.Admin, d.Admin}, {"ROUSE_STATS_PORT", p.ports.Stats, d.Stats}, {"ROUSE_METRICS_PORT", p.ports.Metrics, d.Metrics}} {
		if port.at != port.usual {
			all = append(all, plain(port.name, strconv.Itoa(port.at)))
		}
	}
	if p.options.StatsURL != "" {
		all = append(all, plain("ROUSE_STATS_URL", p.options.StatsURL))
	}
	if p.options.TokenAudience != "" {
		all = append(all, plain("ROUSE_STATS_TOKEN_FILE", tokenDir+"/"+tokenFile))
	}
	return all
}

// sometimes lists the variables of env that are not always said.
var sometimes = []string{"ROUSE_READINESS_PACED", "ROUSE_USER_PROTOCOL", "ROUSE_ADMIN_PORT", "ROUSE_STATS_PORT", "ROUSE_METRICS_PORT", "ROUSE_STATS_URL", "ROUSE_STATS_TOKEN_FILE"}

func plain(name, value string) envVar { return envVar{Name: name, Value: &value} }

func fromField(name, path string) envVar {
	v := &valueFrom{}
	v.FieldRef.FieldPath = path
	return envVar{Name: name, ValueFrom: v}
}
