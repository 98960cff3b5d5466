"""What the provider tests lean on: the server says where it listens, fails as told, and its verdict tells a good client from a bad one."""

import json
import pathlib
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

SERVER = pathlib.Path(__file__).with_name("llmock_server.py")
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


class Llmock(unittest.TestCase):
    def setUp(self):
        server = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.terminate)
        self.url = server.stdout.readline().rpartition(" ")[2].strip()
        self.post("/_llmock/scenario", {"behaviors": [{"type": "fail", "status": 429, "retry_after": 1}]})

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def verdict(self):
        with urllib.request.urlopen(self.url + "/_llmock/verdict", timeout=10) as answer:
            return json.load(answer)

    def test_client_that_waits_passes(self):
        self.assertEqual(self.post("/v1/chat/completions", BODY), 429)
        time.sleep(1)  # the Retry-After that was asked for
        self.assertEqual(self.post("/v1/chat/completions", BODY), 200)
        verdict = self.verdict()
        self.assertEqual((verdict["errors"], verdict["warnings"], verdict["attempts"]), (0, 0, 2))

    def test_client_that_does_not_wait_fails(self):
        self.post("/v1/chat/completions", BODY)
        self.post("/v1/chat/completions", BODY)
        self.assertEqual([finding["code"] for finding in self.verdict()["findings"]], ["retry_after_ignored"])


if __name__ == "__main__":
    unittest.main()
