// Package deploy is what runs Rouse in a cluster: a Helm chart, and the kustomize base that is made from it.
//
// The chart's templates are the one source. They use nothing of Helm beyond Go's text/template, .Values, .Release and fail, so
// that [Render] prints what `helm template` would, and base/ is checked against it.
//
// Concurrency: values only.
package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/inject"
)

//go:embed all:chart
var chart embed.FS

// Options are what people decide about an installation. The zero value of a field means the chart's default.
type Options struct {
	// Namespace is where everything lives, default rouse-system. CreateNamespace makes it.
	Namespace       string
	CreateNamespace bool
	// Repository and Tag name the images: REPOSITORY/autoscaler:TAG.
	Repository, Tag string
	// PullSecret is the Secret for a private registry, none by default.
	PullSecret string
	// Audience lets queue-proxies push their reports, with tokens for it. Empty lets control fetch them.
	Audience string
	// TokenSecret is the Secret of the token between activators and control, which must be there. Empty lets control make
	// one, rouse-token, if there is none: then nothing that is rendered changes from one time to the next.
	TokenSecret string
	// Everything also renders what is made later by what was rendered.
	Everything bool
	// Control and Activators are how many instances there are, of activators at least.
	Control, Activators int
	// Webhook injects the queue-proxy into labelled pods, with the sizes of Sidecar where annotations don't say.
	Webhook bool
	Sidecar inject.Sizes
	// Autoscaler are settings of all workloads, with the keys of config-autoscaler.
	Autoscaler map[string]string
	// Only are the [Parts] that are rendered; none stands for all.
	Only []string
}

// Default returns the options with every zero field that is no switch replaced by its default.
func (o Options) Default() Options {
	if o.Namespace == "" {
		o.Namespace = "rouse-system"
	}
	return o
}

// mostControl bounds the instances of control: each activator keeps a stream to every one. mostActivators is the chart's
// own bound, which whoever asks for more activators raises.
const (
	mostControl    = 20
	mostActivators = 20
)

// Validate names every field that is out of range.
func (o Options) Validate() error {
	var errs []error
	if o.Control < 0 || o.Control > mostControl {
		errs = append(errs, fmt.Errorf("control = %d: must be 1 to %d instances, or 0 for the chart's 2", o.Control, mostControl))
	}
	if o.Activators < 0 {
		errs = append(errs, fmt.Errorf("activators = %d: must be 1 or more, or 0 for the chart's 2", o.Activators))
	}
	errs = append(errs, o.validateNames()...)
	for _, part := range o.Only {
		if !slices.Contains(Parts(), part) {
			errs = append(errs, fmt.Errorf("only = %q: must be one of %s", part, strings.Join(Parts(), ", ")))
		}
	}
	for name, text := range map[string]string{"image repository": o.Repository, "image tag": o.Tag,
		"token audience": o.Audience} {
		if strings.ContainsAny(text, " \t\r\n\"'{}#,") {
			errs = append(errs, fmt.Errorf("%s = %q: must be a name without blanks and quotes", name, text))
		}
	}
	errs = append(errs, o.Sidecar.Validate(func(name string) string { return "sidecar " + name }))
	if o.Sidecar != (inject.Sizes{}) && !o.Webhook {
		errs = append(errs, errors.New("sizes of the sidecar need the webhook, which is off: nobody else injects by them"))
	}
	_, faults := config.ParseAutoscaler(o.Autoscaler, nil) // control would go on with its defaults
	for _, f := range faults {
		errs = append(errs, f)
	}
	for _, key := range config.UnknownKeys(o.Autoscaler) {
		errs = append(errs, fmt.Errorf("%s: nothing reads this key of config-autoscaler; mend its spelling", key))
	}
	return errors.Join(errs...)
}

// What the API server takes for names: a Namespace is a DNS label, a Secret a DNS subdomain. The package that has these
// rules as functions would bring Kubernetes' logger into whatever links this one.
var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// validateNames holds names to what the API server takes.
func (o Options) validateNames() (errs []error) {
	if len(o.Namespace) > 63 || !dnsLabel.MatchString(o.Namespace) {
		errs = append(errs, fmt.Errorf("namespace = %q: must be at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit", o.Namespace))
	}
	for _, secret := range []struct{ field, name string }{{"image pull secret", o.PullSecret}, {"token secret", o.TokenSecret}} {
		if secret.name != "" && (len(secret.name) > 253 || !dnsSubdomain.MatchString(secret.name)) {
			errs = append(errs, fmt.Errorf("%s = %q: must be the name of a Secret: at most 253 lower-case letters, digits, '-' and '.', "+
				"each part starting and ending with a letter or digit", secret.field, secret.name))
		}
	}
	return errs
}

// Parts are what an installation is divided into, in the order in which they should be made. Access is every service account
// with its rights: it can be brought up to date before anything that needs them.
func Parts() []string {
	return []string{"namespace", "access", "settings", "control", "activator", "webhook", "policy"}
}

// Component is one file of the installation.
type Component struct {
	Name string // such as 30-control.yaml
	YAML []byte
}

// part is which of [Parts] it is.
func (c Component) part() string {
	_, name, _ := strings.Cut(strings.TrimSuffix(c.Name, ".yaml"), "-")
	return name
}

// Render returns the objects of an installation, in the order in which they should be made. Those that are switched off
// are left out; it is an error if nothing is left.
func Render(o Options) ([]Component, error) {
	o = o.Default()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	values, err := o.values()
	if err != nil {
		return nil, err
	}
	all, err := execute(values, o.Namespace)
	if err != nil || len(o.Only) == 0 {
		return all, err
	}
	all = slices.DeleteFunc(all, func(c Component) bool { return !slices.Contains(o.Only, c.part()) })
	if len(all) == 0 {
		return nil, fmt.Errorf("only = %s: that is switched off", strings.Join(o.Only, ", "))
	}
	return all, nil
}

// helpers are templates that the others use.
const helpers = "chart/templates/_values.tpl"

// fail ends the rendering, as Helm's function of this name does.
func fail(text string) (string, error) { return "", errors.New(text) }

// execute renders the templates. Values may be of any type that YAML has: Helm's --set makes int64 of digits, its values files
// float64, and those of the chart itself json.Number.
func execute(values map[string]any, namespace string) ([]Component, error) {
	names, err := fs.Glob(chart, "chart/templates/*.yaml")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	data := map[string]any{"Values": values, "Release": map[string]any{"Namespace": namespace, "Name": "rouse"}}
	var all []Component
	for _, name := range names {
		t, err := template.New(name).Funcs(template.FuncMap{"fail": fail}).Option("missingkey=error").ParseFS(chart, name, helpers)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, name[strings.LastIndexByte(name, '/')+1:], data); err != nil {
			return nil, err
		}
		if text := bytes.TrimSpace(b.Bytes()); len(text) > 0 {
			all = append(all, Component{name[strings.LastIndexByte(name, '/')+1:], append(text, '\n')})
		}
	}
	return all, nil
}

// values are the chart's, with the options over them.
func (o Options) values() (map[string]any, error) {
	text, err := chart.ReadFile("chart/values.yaml")
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	set := func(path string, value any) {
		m, parts := v, strings.Split(path, ".")
		for _, p := range parts[:len(parts)-1] {
			m, _ = m[p].(map[string]any)
		}
		m[parts[len(parts)-1]] = value
	}
	texts := map[string]string{"image.repository": o.Repository, "image.tag": o.Tag, "image.pullSecret": o.PullSecret, "token.secret": o.TokenSecret,
		"reports.audience": o.Audience, "webhook.sidecar.requests.cpu": o.Sidecar.CPURequest, "webhook.sidecar.limits.cpu": o.Sidecar.CPULimit,
		"webhook.sidecar.requests.memory": o.Sidecar.MemoryRequest, "webhook.sidecar.limits.memory": o.Sidecar.MemoryLimit}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		if texts[path] != "" {
			set(path, texts[path])
		}
	}
	set("token.create", o.TokenSecret == "")
	if o.Everything {
		set("token.value", "-")
	}
	if o.Activators > 0 {
		set("activator.replicas", o.Activators)
		set("activator.maxReplicas", max(o.Activators, mostActivators))
	}
	if o.Control > 0 {
		names := make([]any, o.Control)
		for i := range names {
			names[i] = fmt.Sprint("autoscaler-", i)
		}
		set("control.instances", names)
	}
	set("createNamespace", o.CreateNamespace)
	set("webhook.enabled", o.Webhook)
	if len(o.Autoscaler) > 0 {
		set("autoscaler", o.Autoscaler)
	}
	return v, nil
}

// Write writes components as one YAML stream.
func Write(w io.Writer, all []Component) error {
	for i, c := range all {
		if i > 0 {
			if _, err := io.WriteString(w, "---\n"); err != nil {
				return err
			}
		}
		if _, err := w.Write(c.YAML); err != nil {
			return err
		}
	}
	return nil
}
