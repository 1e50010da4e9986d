"""Bodies that break something: their encoding, their size, their nesting, or their meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from random import Random

JSON = {"content-type": "application/json"}
FIELDS = (
    "prompt",
    "model_name",
    "model",
    "messages",
    "job_id",
    "name",
    "data",
    "classes",
    "examples",
    "eval_data",
    "base_model",
    "train_dataset_id",
    "test_functions",
    "reward",
    "training_job_id",
    "checkpoint",
    "schedule",
    "input",
    "target",
)
VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    1e308,
    2**63,
    "",
    "\0",
    "x" * 10_000,
    [],
    [[]],
    {},
    {"": ""},
    [None],
)
TEXTS = (
    b'"\\ud800"',
    b'"\xff"',
    b'"\\u0000"',
    b"1e999",
    b"NaN",
    b"9" * 5000,
    b"[" * 20_000,
    b"{" * 20_000,
    b"",
)


def hostile_bodies(random: Random) -> list[tuple[str, dict[str, str], bytes]]:
    """A fresh selection of bodies: name, headers and content of each."""
    fields = {name: random.choice(VALUES) for name in random.sample(FIELDS, 4)}
    valid = json.dumps({"model_name": TEXT_MODEL, "prompt": ["a"], **fields}).encode()
    cut, place = random.randrange(len(valid)), random.randrange(len(valid))
    flipped = bytearray(valid)
    flipped[place] = random.randrange(256)
    size = random.choice((1000, 100_000, 300_000))
    text = random.choice(TEXTS)
    boundary = random.choice(("", "x", "y" * 70, "y" * 71, "a b"))
    form = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--x--' % (
        random.choice((b"files", b"", b"\xff")),
        text,
    )
    return [
        ("wrong values", JSON, valid),
        ("a cut body", JSON, valid[:cut]),
        ("a changed byte", JSON, bytes(flipped)),
        ("random bytes", JSON, random.randbytes(200)),
        ("a broken text", JSON, b'{"model_name": "m", "%s": %s}' % (random.choice(FIELDS).encode(), text)),
        ("many numbers", JSON, b'{"prompt": [' + b",".join([b"1"] * size) + b"]}"),
        ("many objects", JSON, b'{"data": [' + b",".join([b"{}"] * size) + b"]}"),
        ("many fields", JSON, b"{" + b",".join(b'"%d": 1' % number for number in range(size)) + b"}"),
        ("a long text", JSON, b'{"prompt": "' + b"a," * size + b'"}'),
        ("another charset", {"content-type": "application/json; charset=klingon"}, valid),
        (
            "another type",
            {"content-type": random.choice(("text/plain", "a/b; c", "", ";;;", "multipart/x"))},
            valid,
        ),
        ("a compressed body", {**JSON, "content-encoding": "gzip"}, valid),
        (
            "a form",
            {"content-type": f"multipart/form-data; boundary={boundary}"},
            form,
        ),
    ]
