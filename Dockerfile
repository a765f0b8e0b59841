# One target per component: docker build --target queueproxy -t rouse/queueproxy .
# The sidecar is static. kafkadispatch and rouse link librdkafka, which needs glibc.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/queueproxy
RUN CGO_ENABLED=1 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/kafkadispatch ./cmd/rouse

FROM scratch AS queueproxy
COPY --from=build /out/queueproxy /queueproxy
USER 65532:65532
ENTRYPOINT ["/queueproxy"]

FROM debian:bookworm-slim AS glibc
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
USER 65532:65532

FROM glibc AS kafkadispatch
COPY --from=build /out/kafkadispatch /kafkadispatch
ENTRYPOINT ["/kafkadispatch"]

FROM glibc AS rouse
COPY --from=build /out/rouse /rouse
ENTRYPOINT ["/rouse"]
