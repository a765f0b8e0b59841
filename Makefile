# `make` prints this help. `make check` is what CI calls first.
GO      ?= go
BIN     := bin
CACHE   := $(CURDIR)/.cache
LINT    := $(CACHE)/tools/golangci-lint-v2.15.0
KAFKA   := $(CACHE)/kafka/libs-$(shell cksum test/kafka/pom.xml | cut -d' ' -f1)
CITEST  := $(GO) run ./internal/citest

# A test cluster (test/cluster): namespaces need root, compiling doesn't. RUN=TestName runs that test alone, and shows what it logs.
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo -E)
CLUSTER := $(CACHE)/cluster
INSIDE   = $(SUDO) $(CLUSTER)/cluster run -bin $$($(CLUSTER)/cluster build -module test/cluster) -images $(CLUSTER)/images $(CLUSTERFLAGS) --
E2E      = CGO_ENABLED=0 $(GO) -C test/cluster test -trimpath -count=1 -p 1 -parallel 8 -exec "$(INSIDE)"

# Images are built as the Dockerfile builds them: how long a queue-proxy takes to start is a part of the figures.
STATIC := ./cmd/queueproxy ./cmd/activator ./cmd/autoscaler ./cmd/webhook ./cmd/knativeactivator ./cmd/rouse-kube

# The last version that landed, which this one's programs must get along with: `make e2e-skew`. Moved with each release.
PREVIOUS := 3f0924e4b9259204b5b4279d09a6351c3c9946b5
OLD       = $(CACHE)/previous-$(PREVIOUS)
SKEW     := ^TestRouseSkew

.PHONY: help run build check fmt vet lint test test-peers test-kafka demo bench-deps fidelity-full conformance cluster e2e e2e-ipv6 e2e-skew e2e-knative e2e-full

help: ## print this help
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start the example service on :8080, scaled from zero
	$(GO) run ./cmd/rouse up -f examples/hello.yaml

build: ## build every binary into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

check: fmt vet lint test ## format, vet, lint, and all tests with the race detector

fmt: ## fail when a file is not gofmt'ed
	@out=$$(gofmt -l $$(git ls-files '*.go')) && test -z "$$out" || { echo "not gofmt'ed:"; echo "$$out"; exit 1; }

vet: ## go vet
	$(GO) vet ./...

lint: $(LINT) ## golangci-lint, see .golangci.yml
	$(LINT) run --allow-parallel-runners ./...

# Built from source once per version. It has requirements of its own, so it is no part of any module here.
$(LINT):
	@mkdir -p $(@D)
	cd $(@D) && GOFLAGS= GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(@D)/golangci-lint $@

test: ## go test -race on everything; holds the count against .ci/tests.min
	$(CITEST) -suite unit -- $(GO) test -race -shuffle=on -timeout 10m ./...

test-peers: ## h2spec and gRPC's interoperability cases through the engine; the rivals' drivers; Knative's contract and code
	$(CITEST) -suite conformance -- $(GO) -C test/conformance test -race -count=1 -timeout 8m ./...
	$(CITEST) -suite breaker-peers -- $(GO) -C bench/peers/breaker test -count=1 -timeout 8m ./...
	$(CITEST) -suite contract -- $(GO) -C test/contract test -race -count=1 -timeout 4m ./...
	$(CITEST) -suite interop -- $(GO) -C test/interop test -count=1 -timeout 6m ./...
	$(GO) -C bench/peers/autoscaler vet ./...
	$(GO) -C bench/peers list -deps knative.dev/serving/cmd/queue >/dev/null

# The brokers have ports of their own, so that a cluster somebody left running is not mistaken for this one.
test-kafka: $(KAFKA) ## the dispatcher's tests and the small soak against Apache Kafka (needs Java 17 and mvn)
	ROUSE_KAFKA_LIBS=$< ROUSE_KAFKA_PORT=29290 test/kafka/run.sh 1 \
		$(CITEST) -suite kafka -- $(GO) test -count=1 -timeout 6m ./kafkadispatch ./test/kafka/soak

# The broker's libraries, by what pins them: another pom is another folder.
$(KAFKA): test/kafka/pom.xml
	rm -rf $@.part
	mvn -q -B -f $< dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$@.part
	rm -rf $@ && mv $@.part $@ && touch $@

demo: ## the README's first command, answered by a process that did not exist before
	./.ci/demo

bench-deps: ## install the rivals that `rouse bench proxy` measures (Debian, Ubuntu; asks for root)
	$(if $(filter 0,$(shell id -u)),,sudo) apt-get install -y --no-install-recommends haproxy nginx-light

fidelity-full: ## 1 GiB both ways under 64 MiB, and 1,000 WebSockets for a minute
	ROUSE_FULL=1 $(GO) test -count=1 -timeout 20m -v -run 'TestFidelity(BigBodies|ManyWebSockets)' ./internal/forward

conformance: ## h2spec beside a bare net/http server, and gRPC interop, through the engine
	cd test/conformance && $(GO) test -count=1 ./...

cluster: ## build Kubernetes and the images of ./cmd for the end-to-end tests, once (minutes the first time)
	@mkdir -p $(CLUSTER)/images
	CGO_ENABLED=0 $(GO) -C test/cluster build -trimpath -o $(CLUSTER)/ ./cmd/cluster
	$(CLUSTER)/cluster build -module test/cluster
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o $(CLUSTER)/images/ $(STATIC)
	CGO_ENABLED=1 $(GO) build -o $(CLUSTER)/images/ ./cmd/kafkadispatch ./cmd/rouse
	CGO_ENABLED=0 $(GO) -C test/cluster build -trimpath -o $(CLUSTER)/images/ ./internal/testapp

e2e: cluster ## the end-to-end tests on a real Kubernetes, as root, without Docker (needs nftables); RUN=TestName for one
ifdef RUN
	$(if $(findstring TestRouseSkew,$(RUN)),$(error it needs the version before this one: make e2e-skew RUN=$(RUN)))
	$(E2E) -timeout 30m -v -run '$(RUN)' -skip '$(SKEW)' ./selftest ./e2e
else
	$(CITEST) -suite cluster -- env CGO_ENABLED=0 $(GO) -C test/cluster test -trimpath -count=1 ./launch ./agent/... ./harness
	$(CITEST) -suite e2e -- env $(E2E) -timeout 18m -skip '$(SKEW)' ./selftest ./e2e
endif

e2e-skew: cluster $(OLD) ## this version beside the one before, PREVIOUS, in every mixture (needs git's history); RUN=TestRouseSkew/part
	cp -f $(OLD)/previous-* $(CLUSTER)/images/
	$(E2E) -timeout 60m -v -run '$(or $(RUN),$(SKEW))' ./e2e

e2e-ipv6: ## the tests on a cluster whose first family is IPv6, where Services have no other; RUN=TestName for one
	$(MAKE) e2e CLUSTERFLAGS=-ipv6-first $(if $(RUN),RUN='$(RUN)')

# Its programs, as images of other names. They are built like the others: what both versions need is compiled once.
$(OLD):
	@git cat-file -e '$(PREVIOUS)^{commit}' || { echo "$(PREVIOUS), the version before this one (PREVIOUS in Makefile), is not in this clone: run git fetch --unshallow" >&2; exit 1; }
	rm -rf $@.part && mkdir -p $@.part/source
	git archive $(PREVIOUS) | tar -x -C $@.part/source
	for program in autoscaler activator queueproxy; do \
		CGO_ENABLED=0 $(GO) -C $@.part/source build -trimpath -buildvcs=false -ldflags='-s -w' -o $@.part/previous-$$program ./cmd/$$program || exit 1; done
	rm -rf $@.part/source
	mv $@.part $@

# Knative's programs are images beside ours; its manifests come from the same modules.
e2e-knative: cluster ## our queue-proxy and activator inside Knative Serving 0.42.2, beside its own; RUN=TestKnative/matrix for a part
	dir=$$($(GO) -C test/knative run .) && cp -f $$dir/images/kn-* $(CLUSTER)/images/ && \
		ROUSE_KNATIVE_CONFIG=$$dir/config $(E2E) -timeout 60m -v $(if $(RUN),-run '$(RUN)') ./knative

e2e-full: cluster ## the same in full length: every figure, every fault for two minutes; then e2e-ipv6, e2e-skew and e2e-knative
	ROUSE_FULL=1 $(E2E) -timeout 60m -v -skip '$(SKEW)' ./selftest ./e2e
	$(MAKE) e2e-ipv6
	ROUSE_FULL=1 $(MAKE) e2e-skew
	ROUSE_FULL=1 $(MAKE) e2e-knative
