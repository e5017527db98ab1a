"""A small HTTP proxy before a jobmanager, on loopback: below a path prefix, with files of a folder instead of those that are built
in, or as if the jobmanager were gone.

    python3 -m tests.support_web.proxy localhost:8081 [--port 8090] [--prefix /flink]     serves jobmanager/web from the source tree"""
import argparse
import http.client
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEB = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "jobmanager", "web")
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
POLICY = "default-src 'self'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def file(self, path):
        if path in ("/", "/millrace/"):
            path = "/index.html"
        path = path.removeprefix("/millrace")
        name = os.path.join(self.server.folder, path.lstrip("/"))
        if "/" in path[1:] or not os.path.isfile(name) or os.path.splitext(name)[1] not in TYPES:
            return False
        with open(name, "rb") as f:
            self.reply(200, f.read(), [("Content-Type", TYPES[os.path.splitext(name)[1]]), ("Content-Security-Policy", POLICY),
                                       ("Cache-Control", "no-cache")])
        return True

    def pass_on(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        prefix = self.server.prefix
        if not self.path.startswith(prefix + "/"):
            self.reply(404, b"nothing here", [("Content-Type", "text/plain")])
            return
        path = self.path[len(prefix):]
        if self.server.folder and self.command == "GET" and self.file(path.split("?")[0]):
            return
        try:
            connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            connection.request(self.command, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self.reply(502, b"bad gateway", [("Content-Type", "text/plain")])
            return
        skipped = ("content-length", "connection", "transfer-encoding", "keep-alive")
        self.reply(answer.status, content, [(name, value) for name, value in answer.getheaders() if name.lower() not in skipped])
        connection.close()

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = pass_on


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A connection that was cut is no news."""


class Proxy:
    """upstream: host:port. folder: serves the page from there. url: of the page at the root."""

    def __init__(self, upstream, prefix="", folder=None, port=0):
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.server.connections = set()
        self.server.upstream, self.server.prefix, self.server.folder = upstream, prefix, folder
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{prefix}/"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        """Open connections end too, as when a process is gone."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.server.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it ended by itself
                pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--prefix", default="")
    options = parser.parse_args()
    proxy = Proxy(options.upstream, options.prefix, WEB, options.port)
    print(proxy.url, flush=True)
    proxy.thread.join()


if __name__ == "__main__":
    main()
