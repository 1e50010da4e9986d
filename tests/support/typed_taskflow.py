"""A Dag with decorators, for the type checker: it must accept what is right, and find what is wrong."""

from __future__ import annotations

from airflow_provider_lamini.decorators import task


@task.lamini_batch_inference(model_name="m", output="s3://bucket/{{ run_id }}", chunk_size=10, retries=2)
def prompts(count: int) -> list[str]:
    """Return prompts."""
    return ["a"] * count


@task.lamini_embed
def texts() -> list[str]:
    """Return texts."""
    return ["a"]


@task.lamini_batch_inference(model_name="m")  # type: ignore[call-arg]  # output is missing
def nowhere() -> list[str]:
    """Return prompts."""
    return ["a"]


@task.lamini_completion(model_name="m", max_token=7)  # type: ignore[call-arg]  # no such argument
def prompt() -> str:
    """Return a prompt."""
    return "a"


@task.lamini_classify(model_id="c", output=7)  # type: ignore[arg-type]  # not a path
def rows() -> list[dict[str, str]]:
    """Return rows."""
    return [{"prompt": "a"}]


@task.emissary_batch_inference(model_name="m", output="o", top_k=3, row_usage=True)
def others() -> list[str]:
    """Return prompts."""
    return ["a"]


prompts(7)
prompts("seven")  # type: ignore[arg-type]
