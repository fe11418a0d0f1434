"""Documents held against their published schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def against_schema(name: str, document: Any) -> list[str]:
    """Places and words of all that a document has wrong by ``docs/reference/NAME.schema.json``."""
    schema = json.loads((REFERENCE / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{one.json_path}: {one.message}" for one in errors]
