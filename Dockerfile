# The server with the demo page inside. Build: docker build -t weir .
# Run it with the host's network (see docker-compose.yml), or announce the address that browsers reach:
#   docker run -p 4000:4000 -p 40000:40000/udp -p 40000:40000/tcp weir --announce 203.0.113.7

FROM node:22-bookworm-slim AS demo
WORKDIR /weir/web-demo
COPY web-demo/package.json web-demo/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web-demo ./
RUN npm run build

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        cmake libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /weir
COPY . .
COPY --from=demo /weir/web-demo/dist web-demo/dist
RUN cargo build --release --locked && cp target/release/weir /usr/local/bin/weir

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group weir \
    && install --directory --owner=weir --group=weir /data
COPY --from=build /usr/local/bin/weir /usr/local/bin/weir
USER weir
# The user has no home: GStreamer's list of plugins and the list of fonts go here.
ENV WEIR_DATA_DIR=/data XDG_CACHE_HOME=/tmp
VOLUME /data
EXPOSE 4000/tcp 40000/udp 40000/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["weir"]
