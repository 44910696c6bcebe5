# syntax=docker/dockerfile:1
# One image for every process; what it runs is the container's command.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked \
        -p seckill-ingress -p seckill-projector -p seckill-timeout -p seckillctl \
        -p seckill-payment-simulator \
    && install -D -t /binaries \
        target/release/seckill-ingress \
        target/release/seckill-projector \
        target/release/seckill-timeout \
        target/release/seckillctl \
        target/release/seckill-payment-simulator

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin seckill
COPY --from=build /binaries/ /usr/local/bin/
COPY --chmod=0755 ops/local/healthcheck /usr/local/bin/healthcheck
USER 10001
# 8080: buyers. 8081 ingress, 8082 projector, 8083 timeout: operators, health, metrics. 8084: the payment simulator.
EXPOSE 8080 8081 8082 8083 8084
CMD ["seckill-ingress"]
