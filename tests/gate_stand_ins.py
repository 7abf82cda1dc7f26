"""Requests, forms and servers for tests of the gate."""

import ssl
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import anyio
import trustme
from starlette.requests import Request

from serving.settings import ServiceSettings

BOUNDARY = "b0undary"


def run(function, *args, **named):
    """Run a coroutine function to its end."""
    return anyio.run(partial(function, *args, **named))


def part(name, content, filename=None, **headers):
    """Return one part of a form."""
    file = "" if filename is None else f'; filename="{filename}"'
    lines = [
        f'Content-Disposition: form-data; name="{name}"{file}',
        *(f"{key}: {value}" for key, value in headers.items()),
    ]
    body = content if isinstance(content, bytes) else content.encode()
    return f"--{BOUNDARY}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body + b"\r\n"


def form(*parts):
    """Return the body of a form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def request(chunks, content_type=f"multipart/form-data; boundary={BOUNDARY}", **headers):
    """Return a request whose body comes in these chunks; an iterator may be endless."""
    coming = iter([chunks] if isinstance(chunks, bytes) else chunks)
    head = [(key.replace("_", "-").encode(), str(value).encode()) for key, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"content-type", content_type.encode()), *head],
    }

    async def receive():
        chunk = next(coming, None)
        if chunk is Ellipsis:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request(scope, receive)


class Answers(BaseHTTPRequestHandler):
    """Answers what the server was told to; remembers what it was asked."""

    def do_GET(self):
        """Answer one request."""
        self.server.asked.append((self.headers["Host"], self.path))
        status, headers, body = self.server.answers.get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        headers = ({"Content-Length": str(len(body))} if isinstance(body, bytes) else {}) | headers
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        for block in [body] if isinstance(body, bytes) else body:
            self.wfile.write(block)

    def log_message(self, *_):
        """Say nothing."""


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may leave when they like."""

    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing."""


@contextmanager
def serve(answers, context=None):
    """Run a server on this machine: `answers` gives status, headers and body by path; `asked` lists who asked."""
    server = QuietServer(("127.0.0.1", 0), Answers)
    server.answers, server.asked = answers, []
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=partial(server.serve_forever, 0.02))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_authority(folder: Path):
    """Make a certificate authority: return its PEM file, and the context of a server called data.example.org."""
    made = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.issue_cert("data.example.org", "other.example.org").configure_cert(context)
    path = folder / "ca.pem"
    made.cert_pem.write_to_path(path)
    return path, context


def resolver(**addresses):
    """Return a resolver that knows these names (dots written as __), and remembers how often it was asked."""
    known = {name.replace("__", "."): texts for name, texts in addresses.items()}
    asked = []

    async def resolve(host, _port):
        asked.append(host)
        texts = known[host]
        text = texts if isinstance(texts, str) else texts[min(len(asked), len(texts)) - 1]
        return [ip_address(each) for each in text.split()]

    resolve.asked = asked
    return resolve


def settings(tmp_path: Path, **named) -> ServiceSettings:
    """Return settings of a service whose state lies in the test's folder."""
    return ServiceSettings(**({"state": tmp_path / "state"} | named))
