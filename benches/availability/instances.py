"""The instances: each a network namespace with a real nginx, a slow application behind it, and whatever handles its
notice. An instance boots for a while; one that is taken answers nothing any more, from one moment to the next.
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

from cloud import Wire

HERE = Path(__file__).resolve().parent
PORT = 80
APPLICATION_PORT = 8081

NGINX = """
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # This is longer than the load balancer's timeout, so that no connection is closed under a request.
    keepalive_timeout 3600s;
    keepalive_requests 1000000;
    server {{
        listen {port};
        location = /quick {{ return 200 "quick\\n"; }}
        location / {{
            proxy_pass http://127.0.0.1:{application};
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""
# The way Debian's unit stops nginx: five seconds for open requests, then the end.
STOP = """#!/bin/sh
pid=$(cat {directory}/nginx.pid) || exit 0
kill -QUIT "$pid"
for tenth in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 \\
    26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50; do
  kill -0 "$pid" 2>/dev/null || exit 0
  sleep 0.1
done
kill -TERM "$pid"
"""


class Instance:
    def __init__(self, number, snapshot, directory, tools, boot, handler):
        self.id, self.address = snapshot["id"], snapshot["private_ip"]
        self.directory, self.tools, self.handler = directory / self.id, tools, handler
        self.directory.mkdir()
        self.processes, self.taken, self.lock = [], False, threading.Lock()
        self.wire = Wire(number, self.address)
        if snapshot["first"]:
            self.booted()
        else:
            threading.Timer(boot, self.booted).start()

    def start(self, command, **options):
        with self.lock:
            if not self.taken:
                with (self.directory / "log").open("ab") as log:
                    command = self.wire.inside([str(word) for word in command])
                    self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options))

    def booted(self):
        (self.directory / "nginx.conf").write_text(
            NGINX.format(directory=self.directory, port=PORT, application=APPLICATION_PORT))
        stop = self.directory / "stop-nginx"
        stop.write_text(STOP.format(directory=self.directory))
        stop.chmod(0o755)
        self.start([sys.executable, HERE / "application.py", str(APPLICATION_PORT)])
        self.start([self.tools, "nginx", "-g", "daemon off;", "-c", self.directory / "nginx.conf", "-e", self.directory / "nginx.log"])
        if self.handler.start:
            self.handler.start(self)

    def serves(self):
        return not self.taken and self.wire.listens_on(PORT)

    def take(self):
        """Takes the instance: first its network, so that nobody notices its end."""
        with self.lock:
            if self.taken:
                return
            self.taken = True
        self.wire.cut()
        self.wire.end()

    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""


def wait(condition, seconds, why):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(why())
        time.sleep(0.05)
