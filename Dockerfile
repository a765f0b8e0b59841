# One target per component: docker build --target queueproxy -t rouse/queueproxy .
# What runs in a cluster is static. kafkadispatch and rouse link librdkafka, which needs glibc.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/queueproxy ./cmd/activator ./cmd/autoscaler \
    ./cmd/webhook ./cmd/knativeactivator ./cmd/rouse-kube
RUN CGO_ENABLED=1 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/kafkadispatch ./cmd/rouse

FROM scratch AS queueproxy
COPY --from=build /out/queueproxy /queueproxy
USER 65532:65532
ENTRYPOINT ["/queueproxy"]

FROM scratch AS activator
COPY --from=build /out/activator /activator
USER 65532:65532
ENTRYPOINT ["/activator"]

FROM scratch AS autoscaler
COPY --from=build /out/autoscaler /autoscaler
USER 65532:65532
ENTRYPOINT ["/autoscaler"]

FROM scratch AS webhook
COPY --from=build /out/webhook /webhook
USER 65532:65532
ENTRYPOINT ["/webhook"]

FROM scratch AS knativeactivator
COPY --from=build /out/knativeactivator /knativeactivator
USER 65532:65532
ENTRYPOINT ["/knativeactivator"]

FROM debian:bookworm-slim AS glibc
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
USER 65532:65532

FROM glibc AS kafkadispatch
COPY --from=build /out/kafkadispatch /kafkadispatch
ENTRYPOINT ["/kafkadispatch"]

FROM glibc AS rouse
COPY --from=build /out/rouse /out/rouse-kube /
ENTRYPOINT ["/rouse"]
