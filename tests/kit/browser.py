"""A real browser, headless, with a profile of its own:

	with Browser(url, tmp_path) as browser: … browser.said()

It resolves *.localhost by itself. A test is skipped where there is none."""

import os
import shutil
import subprocess

import pytest

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--remote-debugging-port=0", "--ignore-certificate-errors"]


class Browser:
    def __init__(self, url, directory):
        self.program, self.url, self.directory = shutil.which("chromium"), url, directory
        if not self.program:
            pytest.skip("no chromium")

    def __enter__(self):
        self.log = open(self.directory / "browser.log", "w+")
        self.process = subprocess.Popen(
            [self.program, *OPTIONS, f"--user-data-dir={self.directory}/profile", self.url],
            stdout=self.log, stderr=self.log, env={**os.environ, "HOME": str(self.directory)})
        return self

    def said(self):
        self.log.seek(0)
        return self.log.read()[-2000:]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(120)
        self.log.close()
