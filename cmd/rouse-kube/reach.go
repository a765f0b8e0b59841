package main

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

// apiServer is what the commands that look at a cluster ask of it; *kube.Client is one.
type apiServer interface {
	Namespace() string
	Version(ctx context.Context) (kube.Version, error)
	View(ctx context.Context, namespace string, pods bool) (*kube.View, error)
	Component(ctx context.Context, namespace string, kind workload.Kind, name string) (*kube.Component, error)
	Bound(ctx context.Context, binding string) (namespaces []string, err error)
	Shares(ctx context.Context, namespace string) (kube.Shares, error)
	ConfigMap(ctx context.Context, namespace, name string) (data map[string]string, found bool, err error)
	Trusted(ctx context.Context, configuration string) (bundles [][]byte, found bool, err error)
	Granted(ctx context.Context, namespace, account string, r kube.Right) (bool, error)
	Permitted(ctx context.Context, r kube.Right) (bool, error)
	Resource(ctx context.Context, apiVersion, kind string) (string, error)
	Page(ctx context.Context, namespace, pod string, port int, path string, query url.Values) ([]byte, error)
}

// reach is the flags that say which cluster, and which part of it.
type reach struct {
	namespace, system, kubeconfig, context string
	all                                    bool
}

func (r *reach) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.namespace, "namespace", "n", "", "namespace of the workloads (default that of the kubeconfig's context)")
	f.BoolVarP(&r.all, "all-namespaces", "A", false, "workloads of all namespaces")
	f.StringVar(&r.system, "system-namespace", "rouse-system", "where control and the activators are")
	r.clusterFlags(cmd)
}

// clusterFlags are those that say which cluster alone.
func (r *reach) clusterFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.kubeconfig, "kubeconfig", "", "kubeconfig file (default KUBECONFIG, then ~/.kube/config)")
	f.StringVar(&r.context, "context", "", "context of the kubeconfig (default its current one)")
}

// connect makes a client, and settles which namespace is meant.
func (r *reach) connect(agent string) (*kube.Client, error) {
	if r.all && r.namespace != "" {
		return nil, cmdline.Misusef("--namespace and --all-namespaces: give one of them")
	}
	kube.Quiet()
	var files []string
	if f := configFile(r.kubeconfig); f != "" {
		files = filepath.SplitList(f)
	}
	if len(files) == 0 && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return nil, errors.New("which cluster? Give --kubeconfig FILE, set KUBECONFIG, or write ~/.kube/config; this is no pod, which needs none of them")
	}
	c, err := kube.ConnectTo(kube.Target{Files: files, Context: r.context, UserAgent: "rouse-" + agent})
	if err != nil {
		return nil, err
	}
	if r.namespace == "" && !r.all {
		r.namespace = c.Namespace()
	}
	return c, nil
}

// configFile is where kubectl would look: a file, or a list of them.
func configFile(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv("KUBECONFIG"); env != "" {
		return env
	}
	if home, err := os.UserHomeDir(); err == nil {
		if file := filepath.Join(home, ".kube", "config"); exists(file) {
			return file
		}
	}
	return "" // the pod's own account
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// scope names the part of the cluster for people.
func (r *reach) scope() string {
	if r.all {
		return "any namespace"
	}
	return "namespace " + r.namespace
}

// formats of output.
const (
	asText = "text"
	asJSON = "json"
)

func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", asText, "format: text or json")
}

func checkFormat(format string) error {
	if format != asText && format != asJSON {
		return cmdline.Misusef("--output = %q: must be %s or %s", format, asText, asJSON)
	}
	return nil
}

// remedy says what the caller lacks when the API server refused, "" otherwise.
func remedy(err error, right kube.Right) string {
	if !kube.Refused(err) {
		return ""
	}
	if right == (kube.Right{}) {
		return "you need more rights: see docs/kubernetes.md, Commands"
	}
	return "you need the right to " + right.String() + ": see docs/kubernetes.md, Commands"
}
