"""Serves the page to this machine alone, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clearmark.errors import UserError

if TYPE_CHECKING:
    import gradio as gr

HOST = "127.0.0.1"
PORT = 7860
"""The first that is tried, and what Gradio's users know."""

# Gradio's own files need no more; with this no browser asks any other machine for anything.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for all files of this process, removed at the end, also by SIGTERM or SIGHUP.

    All of these signals raise ``KeyboardInterrupt`` in here. Enter it before Gradio is imported,
    which is told where to put its files and to call nobody.
    """
    for number in ENDS:
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="clearmark-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        tempfile.tempdir = str(folder)  # of parts of uploads
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
        os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "examples")
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        for key in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it answers
            os.environ[key] = ",".join(filter(None, [os.environ.get(key), HOST]))
        try:
            yield folder
        finally:
            for number in ENDS:
                signal.signal(number, signal.SIG_IGN)  # until all is removed


def serve(page: gr.Blocks, port: int | None, megabytes: float, css: str) -> None:
    """Serve until a signal ends it.

    Args:
        page: what to serve.
        port: None takes the first free one from 7860 on.
        megabytes: larger uploads are refused.
        css: of the page.

    Raises:
        UserError: the port is taken.
    """
    from starlette.middleware import Middleware

    page.queue(max_size=16, default_concurrency_limit=1)
    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=int(megabytes * 2**20),  # as Gradio counts them
            allowed_paths=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=[],
            css=css,
            app_kwargs={"middleware": [Middleware(Guard)]},
        )
    except OSError as error:
        said = f"port={port} is taken" if port else f"no port is free from {PORT} on"
        raise UserError(f"{said}; give another one, as port={(port or PORT) + 100}") from error
    print(f"open http://{HOST}:{page.server_port} in a browser; Ctrl-C ends it", flush=True)
    try:
        while True:
            threading.Event().wait(1)
    except KeyboardInterrupt:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        page.close(verbose=False)


class Guard:
    """ASGI middleware: answers pages of this machine alone, which then ask nobody else.

    A site that is open in the same browser may send requests here; their ``Origin``, or their
    ``Host`` if its name was pointed at this machine, gives them away. Gradio would fetch addresses
    of the web for whoever asks.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        ours = host.partition(":")[0] in (HOST, "localhost")
        same = headers.get("origin", f"http://{host}") == f"http://{host}"
        if not (ours and same) or "=http" in scope["path"]:
            await PlainTextResponse("refused", 403)(scope, receive, send)
            return

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self.app(scope, receive, told)


def leave() -> None:
    """End the process at once: Python would abort it while a picture is being restored."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
