"""The page's server and a browser, as a user has them."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from conftest import ROOT

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


class Site:
    """The server as a user starts it, in folders of its own that are empty."""

    def __init__(self, folder, *words):
        self.folder, self.kept = folder, ("home", "tmp", "here")
        for name in self.kept:
            (folder / name).mkdir()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GRADIO_", "HF_"))}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "src" / "demo.py"), "device=cpu", *words],
            cwd=folder / "here",
            env=clean
            # Every command of this project lets matplotlib keep its list of fonts.
            | {"MPLCONFIGDIR": str(folder / "fonts"), "PYTHONDONTWRITEBYTECODE": "1"}
            | {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
            | {"PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.PIPE,
            stderr=(folder / "said").open("w"),
            text=True,
        )
        first = self.process.stdout.readline()
        assert first.startswith("open http://127.0.0.1:"), (folder / "said").read_text()
        self.address = first.split()[1]

    def files(self):
        found = (path for name in self.kept for path in (self.folder / name).rglob("*"))
        return [str(path.relative_to(self.folder)) for path in found if path.is_file()]

    def ended_by(self, number):
        """Ends it; returns the exit status and what is left on the disk."""
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        left = [str(path) for name in self.kept for path in (self.folder / name).iterdir()]
        return self.process.returncode, left

    def get(self, path, **headers):
        """Status of an address, which is sent as it is."""
        return self.sent(urllib.request.Request(self.address + path, headers=headers))[0]

    def sent(self, request):
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def upload(self, name, content):
        """Status, and where the server has put it."""
        part = f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body = b"--cut\r\n" + part + content + b"\r\n--cut--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=cut"}
        url = f"{self.address}/gradio_api/upload"
        status, answer = self.sent(urllib.request.Request(url, body, kind))
        return status, json.loads(answer)[0] if status == 200 else answer.decode()

    def ask(self, path, model="unblend", until="process_completed"):
        """What the first tab makes of a file on the server's disk, asked without a browser."""
        given = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        body = {"data": [given, model], "fn_index": 0, "session_hash": "a"}
        kind = {"Content-Type": "application/json"}
        url = f"{self.address}/gradio_api/queue"
        self.sent(urllib.request.Request(f"{url}/join", json.dumps(body).encode(), kind))
        with urllib.request.urlopen(f"{url}/data?session_hash=a") as lines:
            for line in lines:
                told = json.loads(line.removeprefix(b"data: ")) if line.strip() else {}
                if told.get("msg") == until:
                    return told
        return None


def opened(profile):
    """A browser that keeps its own files, and downloads, in that folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(word)
    options.add_experimental_option("prefs", {"download.default_directory": str(profile / "got")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.got = profile / "got"
    return driver
