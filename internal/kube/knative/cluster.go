package knative

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// resync is off: a watch that breaks is listed again by itself.
const resync = time.Duration(0)

// Cluster is a connection to an API server.
type Cluster struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
}

// Connect returns a connection by the file kubeconfig, or by the pod's own service account when that is empty. It
// does not talk to the server yet.
func Connect(kubeconfig, userAgent string) (*Cluster, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("configuration of the API server: %w (set KUBECONFIG, or run in a pod with a service account)", err)
	}
	cfg.UserAgent = userAgent
	typed := rest.CopyConfig(cfg)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	t, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{typed: t, dynamic: d}, nil
}

// sources are the watches of one watcher.
type sources struct {
	revisions, private, public cache.SharedIndexInformer
}

func (c *Cluster) sources() sources {
	revisions := schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "revisions"}
	return sources{
		revisions: dynamicinformer.NewDynamicSharedInformerFactory(c.dynamic, resync).ForResource(revisions).Informer(),
		private:   c.endpoints(typePrivate),
		public:    c.endpoints(typePublic),
	}
}

func (c *Cluster) endpoints(serviceType string) cache.SharedIndexInformer {
	only := informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = labelServiceType + "=" + serviceType })
	return informers.NewSharedInformerFactoryWithOptions(c.typed, resync, only).Core().V1().Endpoints().Informer()
}
