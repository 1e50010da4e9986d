"""What the environments install is pinned, hashed, licensed and audited."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEV = ("local", "parquet", "dev")
ENVIRONMENTS = {
    "local": ("3.3", ("local",)),
    "dev": ("3.3", (*DEV, "fast", "fuzz", "docs")),
    "train": ("3.3", (*DEV, "train")),
    "dev-2.11": ("2.11", DEV),
    "dev-3.4": ("3.4", (*DEV, "browser")),
    "lowest": ("lowest", (*DEV, "zstd", "schema", "sql", "fast", "openlineage")),
    "peers": ("peers", ("local", "fast")),
    "stores": ("stores", ()),
    "production": ("production", ("local", "fast")),
}
NOT_LOWEST = {"dev", "fuzz", "browser", "docs"}
"""Extras for developers, whose lower bounds no environment installs."""
FILES = sorted(ROOT.glob(".ci/requirements-*.txt"))


def pins(path):
    """The versions that a file pins, by package."""
    found = re.findall(r"^([\w.-]+)==([\w.!+-]+)", path.read_text("utf-8"), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_installs_everything_that_this_package_needs(name):
    """Run .ci/hash if this fails after a change of the dependencies."""
    _, extras = ENVIRONMENTS[name]
    pinned = pins(ROOT / f".ci/requirements-{name}.txt")
    needed = [
        *PROJECT["dependencies"],
        *(one for extra in extras for one in PROJECT["optional-dependencies"][extra]),
    ]
    for requirement in map(Requirement, needed):
        package = canonicalize_name(requirement.name)
        if package != "torch":  # its CPU build has another origin, so it has no hash
            assert package in pinned, f"{package} is missing: run .ci/hash"
            assert requirement.specifier.contains(pinned[package], prereleases=True), package


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_has_the_versions_of_the_constraints(name):
    constraints = pins(ROOT / f".ci/constraints-{ENVIRONMENTS[name][0]}.txt")
    pinned = pins(ROOT / f".ci/requirements-{name}.txt")
    differing = {
        package for package in pinned.keys() & constraints.keys() if pinned[package] != constraints[package]
    }
    assert differing == set(), "run .ci/hash"


def test_the_lowest_versions_that_are_tested_are_those_that_the_package_promises():
    """Raise a bound that cannot be installed any more, or that something else raises: an untested bound is a guess."""
    (torch,) = re.findall(r"^torch=(\S+)", (ROOT / ".ci/pin").read_text("utf-8"), re.MULTILINE)
    training = pins(ROOT / ".ci/requirements-train.txt")  # torch is large: a single version is tested
    tested = {**training, "torch": torch, **pins(ROOT / ".ci/requirements-lowest.txt")}
    extras = [needs for extra, needs in PROJECT["optional-dependencies"].items() if extra not in NOT_LOWEST]
    differing = {}
    for requirement in map(
        Requirement, [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    ):
        (bound,) = (each.version for each in requirement.specifier if each.operator == ">=")
        version = tested[canonicalize_name(requirement.name)]
        if Version(version).release[: len(Version(bound).release)] != Version(bound).release:
            differing[requirement.name] = (bound, version)
    assert differing == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_requirement_has_hashes_and_no_other_origin(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    requirements = [line for line in lines if not line.startswith("    ")]
    assert requirements
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line in requirements:
            assert re.fullmatch(r"[\w.-]+==[\w.!+-]+( ; .+)? \\", line), line
            assert following.startswith("    --hash=sha256:")
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line
            assert line.endswith("\\") == following.startswith("    ")


def script(name):
    """A script of .ci as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f".ci/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_licence_of_every_package_is_listed():
    """Run .ci/licences.py if this fails after a change of the dependencies."""
    licences = script("licences")
    listed = licences.listed()
    assert sorted(licences.required() - listed.keys()) == []
    assert [name for name, licence in listed.items() if not licence or licence == "not stated"] == []
    pinned = {pin for path in FILES for pin in pins(path).items()}
    here = {canonicalize_name(one.metadata["Name"]): one for one in importlib.metadata.distributions()}
    stated = {
        name: one.metadata.get("License-Expression")
        for name, one in here.items()
        if (name, one.version) in pinned
    }
    assert {name: text for name, text in stated.items() if text and listed.get(name, text) != text} == {}


SAFE = '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}'
ADVISORY = SAFE.replace("[]", '[{"id": "PYSEC-1", "fix_versions": ["9.9"]}]')


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (
            "no network",
            0,
            "AUDIT SKIPPED: no advisory data can be reached from here. 2 packages were not audited.",
        ),
        ('{"dependencies": [{"name": "a", "skip_reason": "unknown"}]}', 0, "AUDIT SKIPPED"),
        (SAFE, 0, "1 of 2 packages audited, 0 with advisories"),
        (ADVISORY, 1, "a 1: PYSEC-1 (fixed in 9.9)"),
    ],
)
def test_the_audit_fails_for_an_advisory_and_says_if_it_could_not_read_any(tmp_path, answer, status, words):
    (tmp_path / "pip_audit.py").write_text(f"print({answer!r})\n")
    (tmp_path / "requirements.txt").write_text("a==1 \\\n    --hash=sha256:00\nb==2 ; x == 'y' \\\n")
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci/audit.py", tmp_path / "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert (ran.returncode, words in ran.stdout) == (status, True), ran.stdout + ran.stderr
