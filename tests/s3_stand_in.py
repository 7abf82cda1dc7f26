"""A bucket that speaks as much S3 as a batch needs; the tests of a batch import this by name."""

import hashlib
import re
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape


class _Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Return an object, a range of it, or a list of objects."""
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        if "list-type" in asked:
            self._list(unquote(url.path).strip("/"), asked)
            return
        content = self.server.objects.get(unquote(url.path))
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        span = self.headers.get("Range")
        if span is None or not content:
            self._answer(200, content, content)
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        start, stop = int(first or 0), min(int(last or len(content) - 1) + 1, len(content))
        more = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        self._answer(206, content[start:stop], content, **more)

    def do_HEAD(self):
        """Return the facts of an object."""
        content = self.server.objects.get(unquote(urlsplit(self.path).path))
        self._answer(404 if content is None else 200, content or b"", content)

    def do_PUT(self):
        """Keep an object."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[unquote(urlsplit(self.path).path)] = content
        self._answer(200, b"", content)

    def do_POST(self):
        """Drop the objects that the body names."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        bucket = unquote(urlsplit(self.path).path).strip("/")
        keys = [unescape(key) for key in re.findall("<Key>(.*?)</Key>", body)]
        for key in keys:
            self.server.objects.pop(f"/{bucket}/{key}", None)
        gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())

    def _list(self, bucket, asked):
        prefix, mark = (asked.get(name, [""])[0] for name in ("prefix", "delimiter"))
        found, folders = [], set()
        for path, content in sorted(self.server.objects.items()):
            key = path.removeprefix(f"/{bucket}/")
            if key == path or not key.startswith(prefix):
                continue
            head, cut, _ = key[len(prefix) :].partition(mark) if mark else (key, "", "")
            if cut:
                folders.add(prefix + head + cut)
                continue
            facts = f"<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>{_tag(content)}</ETag>"
            found.append(f"<Contents><Key>{escape(key)}</Key>{facts}<Size>{len(content)}</Size></Contents>")
        found += [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)]
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"
        self._answer(200, text.encode())

    def _answer(self, status, body, content=None, **more):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content is not None:
            self.send_header("ETag", _tag(content))
            self.send_header("Last-Modified", formatdate(1e9, usegmt=True))
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def _tag(content):
    return f'"{hashlib.sha256(content).hexdigest()}"'


@contextmanager
def s3_server():
    """Yield objects by path ("/bucket/key") and the environment that makes clients use them."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Bucket) as server:
        server.objects = {}
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
        yield (
            server.objects,
            {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ALLOW_HTTP": "1"},
        )
        server.shutdown()
        thread.join()
