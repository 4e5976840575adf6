#!/usr/bin/env bash
# Measures what a viewer sees over a network that loses datagrams or is narrow. Needs root, nftables and iproute2: the
# server with the publisher and the viewer each get a network namespace, with a cable between them.
set -euo pipefail
cd "$(dirname "$0")/.."

server=weir-server
viewer=weir-viewer

cleanup() {
  ip netns del "$server" 2>/dev/null || true
  ip netns del "$viewer" 2>/dev/null || true
}
cleanup
trap cleanup EXIT
ip netns add "$server"
ip netns add "$viewer"
ip link add weir-s netns "$server" type veth peer name weir-v netns "$viewer"
ip -n "$server" addr add 10.77.0.1/24 dev weir-s
ip -n "$viewer" addr add 10.77.0.2/24 dev weir-v
for namespace in "$server" "$viewer"; do
  ip -n "$namespace" link set lo up
done
ip -n "$server" link set weir-s up
ip -n "$viewer" link set weir-v up

ip netns exec "$server" npx playwright test --project=networks "$@"
