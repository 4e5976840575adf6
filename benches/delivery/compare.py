#!/usr/bin/env python3
"""Requests per CPU-second: weir's HLS files beside nginx serving the same files from memory.

    compare.py PID MASTER_URL [ROUNDS] [SECONDS]

PID is weir's process, MASTER_URL a stream that it has (`WEIR_HLS_RETAIN_SECS=3600` keeps one whose publisher left, so
that nothing but requests costs time). Needs wrk and nginx (`apt-get install wrk nginx-light`).
"""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urljoin

NGINX = """
worker_processes 1; daemon off; pid {root}/pid; error_log {root}/errors;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=100;
  server {{ listen 127.0.0.1:{port}; root {root}; add_header Cache-Control no-cache;
           add_header Access-Control-Allow-Origin *; }}
}}
"""
PORT = 14080
TICK = os.sysconf("SC_CLK_TCK")


def get(url):
    return urllib.request.urlopen(url).read()


def uris(playlist):
    return [line for line in playlist.decode().splitlines() if line and not line.startswith("#")]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def per_cpu_second(pid, url, seconds):
    before = cpu_seconds(pid)
    said = subprocess.run(["wrk", "-t1", "-c64", f"-d{seconds}s", url], capture_output=True, text=True, check=True)
    if "Non-2xx" in said.stdout:
        sys.exit(f"{url}: {said.stdout}")
    return int(re.search(r"(\d+) requests in", said.stdout)[1]) / (cpu_seconds(pid) - before)


def main():
    pid, master = int(sys.argv[1]), sys.argv[2]
    rounds, seconds = (int(text) for text in (sys.argv[3:] + ["5", "4"][len(sys.argv) - 3:])[:2])
    video = urljoin(master, uris(get(master))[-1])
    # Not the newest one: it could leave the playlist while it is measured.
    segment = urljoin(video, uris(get(video))[-2])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root:
        os.chmod(root, 0o755)
        files = {"playlist": video, "segment": segment}
        for name, url in files.items():
            body = get(url)
            open(f"{root}/{name}", "wb").write(body)
            print(f"{name}: {len(body)} bytes")
        open(f"{root}/conf", "w").write(NGINX.format(root=root, port=PORT))
        nginx = subprocess.Popen(["nginx", "-c", f"{root}/conf"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            worker = int(open(f"/proc/{nginx.pid}/task/{nginx.pid}/children").read())
            found = {}
            for _ in range(rounds):
                for name, url in files.items():
                    for server, its_pid, its_url in (
                        ("weir", pid, url),
                        ("nginx", worker, f"http://127.0.0.1:{PORT}/{name}"),
                    ):
                        rate = per_cpu_second(its_pid, its_url, seconds)
                        found.setdefault((name, server), []).append(rate)
        finally:
            nginx.terminate()
            nginx.wait()
    for (name, server), rates in found.items():
        print(f"{name:9} {server:6} {statistics.median(rates) / 1000:6.1f} k per CPU-second"
              f"  ({min(rates) / 1000:.1f}-{max(rates) / 1000:.1f})")


main()
