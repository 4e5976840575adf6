#!/usr/bin/env bash
# The same work by ffmpeg, for comparison with `cargo bench --bench egress`: one process takes RTP of 720p30 H.264 (and
# Opus), copies the video and encodes AAC, and writes HLS. Prints the share of a core that it takes.
#   benches/egress/ffmpeg.sh [seconds]
set -euo pipefail
seconds=${1:-20}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -r "$work"' EXIT
cd "$work"

ffmpeg -v error -f lavfi -i smptebars=size=1280x720:rate=30,noise=alls=8:allf=t -f lavfi -i anoisesrc=color=pink:sample_rate=48000 -t 8 \
  -c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline -b:v 2500k -maxrate 2500k -bufsize 1250k -g 60 -pix_fmt yuv420p \
  -c:a libopus -ac 2 -b:a 64k source.mkv

measure() { # name, RTP streams, output options
  local audio=()
  if [ "$2" = both ]; then
    audio=(-map 0:a -c:a copy -payload_type 111 -f rtp rtp://127.0.0.1:46002)
  fi
  ffmpeg -v quiet -re -stream_loop -1 -i source.mkv -map 0:v -c:v copy -payload_type 102 -sdp_file input.sdp -f rtp \
    "rtp://127.0.0.1:46000?pkt_size=1200" "${audio[@]}" >/dev/null &
  local sender=$!
  sleep 1
  local times
  TIMEFORMAT='%U %S'
  times=$({ time ffmpeg -v quiet -protocol_whitelist file,udp,rtp -i input.sdp "${@:3}" -t "$seconds" -f hls -hls_time 2 \
    -hls_segment_type fmp4 -hls_flags delete_segments out.m3u8 </dev/null 2>/dev/null; } 2>&1)
  kill "$sender"
  wait "$sender" 2>/dev/null || true
  echo "$times" | awk -v name="$1" -v seconds="$seconds" '{ printf "%s: %.2f %% of a core\n", name, ($1 + $2) / seconds * 100 }'
}

measure "ffmpeg, H.264 copied" video -c:v copy
measure "ffmpeg, H.264 copied and AAC" both -c:v copy -c:a aac -b:a 128k
