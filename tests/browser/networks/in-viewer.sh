#!/usr/bin/env bash
# Starts Chromium in the viewer's network namespace.
exec ip netns exec weir-viewer "${CHROMIUM:-/usr/bin/chromium}" "$@"
