"""Processes rows with the official client's pipeline, for ``rows.py``; runs in the client's own environment."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lamini import GenerationNode, GenerationPipeline, PromptObject

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rows_worker import MODEL, PROMPT, measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Pipeline(GenerationPipeline):
    """A pipeline with one node, as in the client's own examples."""

    def __init__(self) -> None:
        super().__init__()
        self.node = GenerationNode(model_name=MODEL, max_new_tokens=100)

    def forward(self, prompt: AsyncIterator[PromptObject]) -> AsyncIterator[PromptObject]:
        """Send the prompts through the node."""
        return self.node(prompt)


def read_prompts(path: str) -> Iterator[PromptObject]:
    """Read the rows as prompts of the client."""
    with Path(path).open("rb") as file:
        for line in file:
            row = json.loads(line)
            yield PromptObject(prompt=PROMPT + row["text"], data={"id": row["id"]})


async def process_rows(path: str, file: TextIO) -> None:
    """Send all rows, and write each answer when it arrives."""
    async for answer in Pipeline().call(read_prompts(path)):
        file.write(json.dumps({"id": answer.data["id"], "output": answer.response}) + "\n")


if __name__ == "__main__":
    _, _, source, target, _ = sys.argv
    with Path(target).open("w") as output_file:
        print(json.dumps(measure(lambda: asyncio.run(process_rows(source, output_file)))))
