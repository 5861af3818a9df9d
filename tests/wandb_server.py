"""As much of a Weights & Biases server as a run needs to begin, and that can be switched off."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
BUCKET = {"id": "r", "config": "{}", "description": None, "sweepName": None, "project": PROJECT}
VIEWER = {"id": "u", "entity": "me", "username": "me", "name": "me", "email": "me@here"}
ANSWERS = {  # what a query names -> its data
    "upsertBucket": {"bucket": BUCKET | {"historyLineCount": 0}, "inserted": True},
    "viewer": VIEWER | {"admin": False, "flags": "{}", "teams": {"edges": []}},
}


@contextmanager
def server(queries=None, files=None):
    """Yields its address, the paths that were asked for, and what switches it off.

    Args:
        queries: name of a GraphQL query -> the data that answers it.
        files: path -> bytes.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *said):
            pass

        def do_POST(self):
            asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("file_stream"):
                return self.answer({"exitcode": None, "limits": {}})
            query = json.loads(body)
            for name, data in (queries or {}).items():
                if f"query {name}(" in query["query"]:
                    return self.answer({"data": data})
            name = (query.get("variables") or {}).get("name", "r")
            found = {key: value for key, value in ANSWERS.items() if key in query["query"]}
            if "upsertBucket" in found:
                bucket = found["upsertBucket"]["bucket"] | {"name": name, "displayName": name}
                found["upsertBucket"] = found["upsertBucket"] | {"bucket": bucket}
            return self.answer({"data": found})

        def do_GET(self):
            asked.append(self.path)
            self.send((files or {}).get(self.path, b""), "application/octet-stream")

        def answer(self, content):
            self.send(json.dumps(content).encode(), "application/json")

        def send(self, data, kind):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, daemon=True).start()

    def off():
        http.shutdown()
        http.server_close()

    try:
        yield f"http://127.0.0.1:{http.server_port}", asked, off
    finally:
        off()
