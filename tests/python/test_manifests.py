"""Every manifest under deploy/ is TOML that says what deploy/fetch and the binary need, and nothing that they don't know."""

import pathlib
import re
import tomllib
import unittest

DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
PYPI = {"kind", "package", "version", "wheel", "sha256", "bytes_max", "folder"}
SHA256 = re.compile(r"[0-9a-f]{64}")
PINNED = re.compile(r"^https://huggingface\.co/[^/]+/[^/]+/resolve/[0-9a-f]{40}$")
ITEM = {"name", "licence", "origin", "files", "sources"}
TABLE = [
    # file, head, keys of an item, keys that say which machine
    ("models.toml", "model", ITEM | {"kind", "architecture"}, set()),
    ("tools.toml", "tool", ITEM | {"version", "version_min"}, {"machine"}),
]


class Manifests(unittest.TestCase):
    def test_forms(self):
        for file, head, keys, machine in TABLE:
            manifest = tomllib.loads((DEPLOY / file).read_text())
            self.assertEqual(set(manifest), {head}, file)
            for item in manifest[head]:
                with self.subTest(file=file, item=item["name"]):
                    # What our own tool makes of a file is pinned too, where it makes something.
                    made = {"converted_sha256"} if item.get("kind") == "scan" else set()
                    self.assertEqual(set(item), keys | made)
                    self.assertTrue(all(SHA256.fullmatch(item[key]) for key in made))
                    for entry in item["files"]:
                        self.assertEqual(set(entry), {"path", "remote", "sha256", "bytes_max"} | machine)
                        self.assertNotIn("/", entry["path"])
                    for source in item["sources"]:
                        want = {"kind", "base"} if source["kind"] == "https" else PYPI | machine
                        self.assertEqual(set(source), want)
                        self.assertRegex(source.get("base", "https://"), r"^https://")
                        if "huggingface.co" in source.get("base", ""):
                            self.assertRegex(source["base"], PINNED, "a branch may move")
                    for pinned in [*item["files"], *(s for s in item["sources"] if "sha256" in s)]:
                        self.assertTrue(SHA256.fullmatch(pinned["sha256"]))
                        self.assertLess(pinned["bytes_max"], 1 << 30)

    def test_a_branch_is_no_pin(self):
        folder = "https://huggingface.co/owner/model/resolve/"
        self.assertRegex(folder + 40 * "a", PINNED)
        for branch in ("main", 39 * "a", 40 * "a" + "/.."):
            self.assertNotRegex(folder + branch, PINNED)


if __name__ == "__main__":
    unittest.main()
