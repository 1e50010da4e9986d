"""Platforms and kinds of jobs are found by name."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.get_provider_info import FORMS
from airflow_provider_lamini.platforms import first_platform, job_kind, platform, platform_names


def test_a_platform_and_its_kinds_of_jobs_are_found_by_name():
    lamini = platform("lamini")
    assert (lamini.name, lamini.title) == ("lamini", "Lamini")
    assert job_kind("lamini/tuning") is lamini.job_kinds["tuning"]


@pytest.mark.parametrize("name", platform_names())
def test_the_kinds_of_a_platform_carry_its_name(name):
    for short_name, kind in platform(name).job_kinds.items():
        assert (kind.platform, kind.short_name) == (name, short_name)
        assert kind.name == f"{name}/{short_name}"


def test_every_connection_type_of_the_provider_belongs_to_a_platform():
    for form in FORMS:
        assert platform(form.conn_type).form is form


@pytest.mark.parametrize("name", ["acme", "acme/tuning"])
def test_an_unknown_platform_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"There is no platform 'acme'\. Known platforms: .*lamini"):
        platform(name) if "/" not in name else job_kind(name)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no kind of job 'lamini/telepathy'\. Known kinds: .*lamini/tuning"):
        job_kind("lamini/telepathy")


def test_a_kind_without_its_platform_is_refused_with_an_example():
    with pytest.raises(ValueError, match=r"'tuning' is not a kind of job: .* such as lamini/tuning"):
        job_kind("tuning")


def test_the_first_platform_of_some_names_is_found_without_looking_at_other_distributions(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    assert first_platform(["output", "fallback", "emissary"]) == "emissary"


def test_names_that_are_no_platforms_have_no_first_one():
    assert first_platform(["output", "fallback"]) is None
