package knative

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

func intstrFrom(n int) intstr.IntOrString { return intstr.FromInt32(int32(n)) }

var (
	ingresses = schema.GroupVersionResource{Group: "networking.internal.knative.dev", Version: "v1alpha1", Resource: "ingresses"}
	sks       = schema.GroupVersionResource{Group: "networking.internal.knative.dev", Version: "v1alpha1", Resource: "serverlessservices"}
	ksvcs     = schema.GroupVersionResource{Group: "serving.knative.dev", Version: "v1", Resource: "services"}
)

// markIngresses stands in for Knative's router: it says of every KIngress that it is ready, and routes nothing. Requests of the tests go to the
// revision's public Service with the headers that a router sets. It ends with the test.
func (in *installation) markIngresses() {
	in.t.Helper()
	ctx, cancel := context.WithCancel(in.Context)
	factory := dynamicinformer.NewDynamicSharedInformerFactory(in.Dynamic, 0)
	mark := func(obj any) {
		u, ok := obj.(*unstructured.Unstructured)
		if seen, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); !ok || seen == u.GetGeneration() {
			return
		}
		_, err := in.Dynamic.Resource(ingresses).Namespace(u.GetNamespace()).
			Patch(ctx, u.GetName(), types.MergePatchType, readyIngress(u), metav1.PatchOptions{}, "status")
		if err != nil && ctx.Err() == nil {
			in.t.Logf("ingress %s/%s: %v", u.GetNamespace(), u.GetName(), err) // gone again, or the next change brings it
		}
	}
	_, err := factory.ForResource(ingresses).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: mark, UpdateFunc: func(_, obj any) { mark(obj) },
	})
	if err != nil {
		in.t.Fatal(err)
	}
	factory.Start(ctx.Done())
	in.t.Cleanup(func() { cancel(); factory.Shutdown() })
}

// soon is how long things may take that are done in a second on a machine with nothing else to do.
const soon = 90 * time.Second
