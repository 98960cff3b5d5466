"""What the project is built from is pinned by hash, and deploy/sbom tells all of it."""

import importlib.machinery
import importlib.resources
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import unittest

import jsonschema
import referencing

ROOT = pathlib.Path(__file__).parents[2]
SCHEMAS = "bom-1.6", "spdx", "jsf-0.82"
REQUIREMENT = re.compile(r"^[A-Za-z0-9._-]+(\[[a-z,]+\])?==")
PINNED = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def program(path):
    """A script without an extension, as a module."""
    loader = importlib.machinery.SourceFileLoader("sbom", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


SBOM = program(ROOT / "deploy" / "sbom")


def validator():
    """CycloneDX's own schema for 1.6, as its maintainers publish it."""
    folder = importlib.resources.files("cyclonedx.schema._res")
    texts = [json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in SCHEMAS]
    found = referencing.Registry().with_resources((text["$id"], referencing.Resource.from_contents(text)) for text in texts)
    return jsonschema.Draft7Validator(texts[0], registry=found)


def lock_faults(text):
    """Packages of a Cargo.lock that come from elsewhere than here and are not pinned."""
    entries = tomllib.loads(text)["package"]
    away = [entry for entry in entries if "source" in entry]
    return [entry["name"] for entry in away if entry["source"] != SBOM.REGISTRY or not SBOM.SHA256.fullmatch(entry.get("checksum", ""))]


def requirement_faults(text):
    """Python packages that are not pinned to a version and its hashes."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [line.split("=")[0] for line in lines if not (REQUIREMENT.match(line) and PINNED.search(line))]


def script_faults(text):
    """Lines of a shell script that bring something in which nothing has pinned."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in lines if any(rule(line) for rule in RULES)]


RULES = [
    lambda line: re.search(r"\b(wget|rustup|npm|git clone)\b ", line),
    lambda line: re.search(r"\bcargo install\b", line),
    lambda line: re.search(r"\bcargo (build|test|doc|clippy|nextest)\b", line) and "--locked" not in line,
    lambda line: re.search(r"\bpip install\b", line) and "--require-hashes" not in line,
]


class Pins(unittest.TestCase):
    def test_everything_that_is_fetched_is_pinned_by_hash(self):
        # Models and programs: test_manifests.py holds the form of each entry, deploy/fetch the hash of each file.
        for file, head in (("models.toml", "model"), ("tools.toml", "tool")):
            for item in tomllib.loads((ROOT / "deploy" / file).read_text())[head]:
                for entry in [*item["files"], *(source for source in item["sources"] if source["kind"] == "pypi")]:
                    self.assertRegex(entry["sha256"], r"^[0-9a-f]{64}$", item["name"])
        self.assertEqual(lock_faults((ROOT / "Cargo.lock").read_text()), [])
        for file in ROOT.glob("tests/*/requirements*.txt"):
            self.assertEqual(requirement_faults(file.read_text()), [], file)
        listed = subprocess.run(["git", "grep", "-lE", "^#!/usr/bin/env bash"], cwd=ROOT, check=True, capture_output=True, text=True)
        scripts = [ROOT / name for name in listed.stdout.split()]
        self.assertGreater(len(scripts), 4)
        for file in scripts:
            self.assertEqual(script_faults(file.read_text()), [], file)

    def test_what_is_not_pinned_is_noticed(self):
        good = '[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "%s"\n' % SBOM.REGISTRY
        self.assertEqual(lock_faults(good), ["a"])
        self.assertEqual(lock_faults(good + 'checksum = "%s"\n' % (64 * "0")), [])
        self.assertEqual(lock_faults('[[package]]\nname = "b"\nversion = "1.0.0"\nsource = "git+https://example.org/b"\n'), ["b"])
        for line in ("six", "six==1.17.0", "six>=1 --hash=sha256:" + 64 * "0", "six==1.17.0 --hash=md5:" + 32 * "0"):
            self.assertEqual(len(requirement_faults(line)), 1, line)
        for line in ("pip install six", "cargo install x", "cargo build --release", "wget https://example.org/x", "git clone x"):
            self.assertEqual(len(script_faults(line)), 1, line)


class Bill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.inputs = SBOM.inputs()
        cls.bill = SBOM.bill(*cls.inputs)
        cls.all = [cls.bill["metadata"]["component"], *cls.bill["components"]]

    def test_sbom_is_what_the_schema_of_cyclonedx_says(self):
        check = validator()
        self.assertEqual([error.message for error in check.iter_errors(self.bill)], [])
        self.assertFalse(check.is_valid(self.bill | {"specVersion": 1.6}), "negative control")
        wrong = [self.all[0] | {"type": "thing"}]
        self.assertFalse(check.is_valid(self.bill | {"components": wrong}), "negative control")

    def test_sbom_names_every_locked_package_with_its_hash(self):
        told = {component["purl"]: component for component in self.all if "purl" in component}
        for name in SBOM.PROGRAMS:
            command = ["cargo", "tree", "--locked", "-p", name, "-e", "normal,build", "--prefix", "none", "--format", "{p}"]
            tree = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for line in filter(None, tree.splitlines()):
                package, version = line.split()[:2]
                purl = f"pkg:cargo/{package}@{version.removeprefix('v')}"
                self.assertIn(purl, told)
                self.assertEqual("hashes" in told[purl], not package.startswith("tidegate"), purl)
        self.assertGreater(len(told), 300)
        refs = {component["bom-ref"] for component in self.all}
        for entry in self.bill["dependencies"]:
            self.assertLessEqual({entry["ref"], *entry["dependsOn"]}, refs)

    def test_sbom_names_models_and_tools(self):
        _, _, models, tools = self.inputs
        for kind, items in (("machine-learning-model", models["model"]), ("application", tools["tool"])):
            for item in items:
                component = next(c for c in self.all if c["bom-ref"] == f"{kind}:{item['name']}")
                told = sorted(part["hashes"][0]["content"] for part in component["components"])
                self.assertEqual(told, sorted(entry["sha256"] for entry in item["files"]))

    def test_sbom_is_the_same_for_the_same_tree(self):
        self.assertEqual(json.dumps(SBOM.bill(*self.inputs)), json.dumps(self.bill))

    def test_sbom_without_a_hash_or_licence_is_refused(self):
        metadata, lock, models, tools = json.loads(json.dumps(self.inputs))
        serde = next(entry for entry in lock["package"] if entry["name"] == "serde")
        checksum = serde.pop("checksum")
        with self.assertRaisesRegex(SBOM.Missing, "serde@.* has no SHA-256"):
            SBOM.bill(metadata, lock, models, tools)
        serde["checksum"] = checksum
        SBOM.bill(metadata, lock, models, tools)
        models["model"][0]["licence"] = ""
        with self.assertRaisesRegex(SBOM.Missing, "has no licence"):
            SBOM.bill(metadata, lock, models, tools)


if __name__ == "__main__":
    unittest.main()
