# Builds with the whole toolchain, runs with the binary, the machine's certificates and nothing else.
FROM rust:1.95-bookworm AS builder
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
RUN cargo build --release --locked --bin overfall

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin overfall && install -d -o overfall -g overfall -m 0750 /var/lib/overfall
COPY --from=builder /build/target/release/overfall /usr/local/bin/overfall
COPY config/policy.yaml deploy/overfall.yaml /etc/overfall/
COPY LICENSE /usr/share/doc/overfall/LICENSE
USER 10001:10001
VOLUME /var/lib/overfall
EXPOSE 8080 8081
# Alive, not ready: a gateway that refuses for a full disk must not be restarted for it. Bash speaks TCP, so the image
# needs no HTTP client.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/overfall"]
CMD ["serve", "-c", "/etc/overfall/overfall.yaml"]
