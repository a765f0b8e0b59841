package manifest_test

import (
	"fmt"

	"github.com/rousehq/rouse/internal/manifest"
)

func ExampleLoad() {
	source := manifest.Source{Name: "app.yaml", Data: []byte(`
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: hello}
spec:
  template:
    spec:
      containerConcurency: 1
      timeoutSeconds: 900
      containers:
        - image: registry.example.com/hello:v1
`)}
	set, diags := manifest.Load([]manifest.Source{source}, manifest.Options{})
	fmt.Println(diags)
	s := set.Services[0]
	fmt.Println(s.RevisionName(1), s.Where("spec.template.spec.containers[0].image"))
	argv, builtin, err := manifest.Images{Exec: map[string]string{"*/hello": "./bin/hello"}}.Resolve(s.Template.Serving())
	fmt.Println(argv, builtin, err)
	// Output:
	// app.yaml:8: warning: Service default/hello: spec.template.spec.containerConcurency: unknown field; did you mean containerConcurrency?
	// app.yaml:9: error: Service default/hello: spec.template.spec.timeoutSeconds: is 900, allowed is 0 to 600 (0 is the default, 300)
	// hello-00001 app.yaml:11
	// [./bin/hello]  <nil>
}
