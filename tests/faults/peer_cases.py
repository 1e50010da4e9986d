"""The batch operator of the OpenAI provider for the crash harness. Needs an environment with that provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.crash.steps import Watch, request

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


class OpenAIBatch:
    """Starts a batch and waits in the triggerer."""

    name = "OpenAITriggerBatchOperator"
    task_state = True

    def learn(self, watch: Watch) -> None:
        """Teach a watch the named steps, with the same names as those of our operators."""
        import httpx2  # OpenAI's client uses it
        from airflow.providers.common.compat.sdk import BaseOperator
        from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        def step(frame: FrameType, state: str) -> str:
            sent = frame.f_locals["request"]
            return f"{request(sent.method, sent.url.path)} is {state}"

        send = httpx2.Client.send.__code__
        watch._before[send] = lambda frame, _: step(frame, "about to be sent")
        watch._after[send] = lambda frame, answer: answer and step(frame, "answered")
        resume = OpenAITriggerBatchOperator.execute_complete.__code__
        watch._before[resume] = lambda *_: "the task resumes"
        watch._before[BaseOperator.defer.__code__] = lambda *_: "the task is about to defer"
        watch._before[OpenAIBatchTrigger.run.__code__] = lambda *_: "the trigger runs"

    def operator(self, place: Path) -> Any:
        """Create the operator, the same each time."""
        del place
        from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator

        return OpenAITriggerBatchOperator(
            task_id="batch",
            file_id="file-1",
            endpoint="/v1/chat/completions",
            deferrable=True,
            poll_interval=0.2,
        )


ALL = {OpenAIBatch.name: OpenAIBatch()}
WARM = ["airflow.providers.openai.operators.openai", "tests.support.crash.phases"]
