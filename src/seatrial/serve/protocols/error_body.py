"""The JSON of an error, whichever part of the server answers."""

from __future__ import annotations

import msgspec

MEDIA_TYPE = "application/json"


def error_body(code: str, message: str, hint: str = "") -> bytes:
    """The body of an answer with an error.

    Args:
        code: Name of the kind of error; it stays the same across releases.
        message: What was wrong.
        hint: What to do next; may be empty.
    """
    return msgspec.json.encode({"error": {"code": code, "message": message, "hint": hint}})
