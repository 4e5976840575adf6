#!/usr/bin/env bash
# Installs what a Debian machine with Rust still lacks to build weir (`setup.sh run`) or to test it (`setup.sh test`).
# Says what it installs, installs only what is missing, and takes a fraction of a second when nothing is.
set -euo pipefail

purpose=${1:-run}

build_packages=(
  build-essential
  pkg-config
  libgstreamer1.0-dev
  libgstreamer-plugins-base1.0-dev
  gstreamer1.0-plugins-base # appsrc, appsink, opusdec, audioconvert, videoconvert, videoscale
  gstreamer1.0-plugins-good # rtpjitterbuffer, the RTP depayloaders, vp8dec, vp9dec
  gstreamer1.0-plugins-bad  # h264parse, aacparse, voaacenc
  gstreamer1.0-plugins-ugly # x264enc
)
test_packages=(
  chromium
  firefox-esr
  ffmpeg
  gstreamer1.0-tools # gst-launch-1.0
  mpv
  openssl # decrypts what weir encrypted
  procps
)

fail() {
  echo "setup: $*" >&2
  exit 1
}

installed() {
  dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

# Node 18 (Debian 12's own) is enough; a Node that is already there by other means is used as it is.
node_missing() {
  ! command -v node >/dev/null || ! command -v npm >/dev/null
}

case $purpose in
  run) wanted=("${build_packages[@]}") ;;
  test) wanted=("${build_packages[@]}" "${test_packages[@]}") ;;
  *) fail "usage: $0 [run|test]" ;;
esac

command -v cargo >/dev/null || fail "weir is built with Rust: install it from https://rustup.rs, then run this again"
command -v apt-get >/dev/null || fail "this script knows Debian and its relatives only; install by hand: ${wanted[*]} nodejs npm"

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
if node_missing; then
  missing+=(nodejs npm)
fi
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || fail "not root and no sudo; install as root: apt-get install ${missing[*]}"
  root=(sudo)
fi
echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    fail "apt-get $1 failed (above)"
  }
}
apt update
apt install --yes --no-install-recommends "${missing[@]}"
echo "setup: done"
