"""The files of ``deploy`` fit this package, Airflow's settings, and the programs that read them."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from airflow_provider_lamini.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
AIRFLOW = re.search(
    r"^apache-airflow==(\S+)", (ROOT / ".ci/constraints-3.3.txt").read_text("utf-8"), re.MULTILINE
)[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
UNITS = sorted(DEPLOY.glob("*.service"))


def unit(path):
    """A systemd unit."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read_string(path.read_text("utf-8"))
    return parser


def instructions():
    """The instructions of the Dockerfile, with their arguments."""
    lines = [
        line for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def test_the_image_is_built_from_the_airflow_that_is_tested_and_from_the_wheel():
    steps = instructions()
    assert [name for name, _ in steps] == ["FROM", "COPY", "RUN"]
    assert re.fullmatch(rf"apache/airflow:{re.escape(AIRFLOW)}-python3\.1[123]", steps[0][1])
    assert "dist/airflow_provider_lamini-*.whl /tmp/wheels/" in steps[1][1]


def test_the_image_installs_extras_that_exist_and_keeps_the_version_of_airflow():
    command = instructions()[2][1]
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", command)
    assert set(extras.split(",")) <= EXTRAS.keys()
    assert '"apache-airflow==${AIRFLOW_VERSION}"' in command


def test_the_command_of_the_image_is_valid_for_a_shell():
    subprocess.run(["sh", "-n", "-c", instructions()[2][1]], check=True)


@pytest.mark.skipif(
    Version(version("apache-airflow")) < Version(AIRFLOW),
    reason="the values are for the newest Airflow, and older ones have fewer settings",
)
def test_the_settings_of_the_helm_values_exist():
    from airflow.configuration import conf

    values = yaml.safe_load((DEPLOY / "helm-values.yaml").read_text("utf-8"))
    ours = get_provider_info()["config"]
    celery = {"worker_concurrency", "worker_prefetch_multiplier"}  # settings of Airflow's Celery provider
    for section, options in values["config"].items():
        known = conf.configuration_description.get(section, ours.get(section, {"options": {}}))["options"]
        unknown = options.keys() - known.keys() - (celery if section == "celery" else set())
        assert unknown == set(), section
        assert all(isinstance(value, str) for value in options.values()), section


def test_the_helm_values_agree_on_the_version_and_use_the_secret_that_they_describe():
    text = (DEPLOY / "helm-values.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    assert values["airflowVersion"] == values["images"]["airflow"]["tag"] == AIRFLOW
    (secret,) = values["secret"]
    for name in (secret["secretName"], values["data"]["metadataSecretName"]):
        assert f"create secret generic {name} " in text
    fields = json.loads(re.search(r"--from-literal=AIRFLOW_CONN_LAMINI_DEFAULT='(.*)'", text)[1])
    assert fields["conn_type"] == "lamini"
    assert fields["port"], "without a port, Airflow's Test button refuses the connection"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_the_sections_of_a_service_and_is_restarted(path):
    parsed = unit(path)
    assert parsed.sections() == ["Unit", "Service", "Install"]
    assert parsed["Service"]["Restart"] == "always"
    assert Path(shlex.split(parsed["Service"]["ExecStart"])[0]).is_absolute()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_what_a_unit_needs_is_made_by_the_commands_of_the_page(path):
    page = (ROOT / "docs/production.md").read_text("utf-8")
    (block,) = (block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "systemctl" in block)
    service = unit(path)["Service"]
    program = Path(shlex.split(service["ExecStart"])[0])
    assert re.search(rf"useradd .*\b{service['User']}\b", block)
    assert f"> {service['EnvironmentFile'].removeprefix('-')}" in block
    assert f"venv {program.parents[1]} " in block
    assert f"deploy/{path.name}" in block


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_a_unit(path, tmp_path):
    """The programs are not installed here, so their paths are replaced."""
    for other in UNITS:
        text = re.sub(r"/srv/\S+", "/bin/true", other.read_text("utf-8"))
        (tmp_path / other.name).write_text(text.replace("EnvironmentFile=/", "EnvironmentFile=-/"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / path.name],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system"},
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
