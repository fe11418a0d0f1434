"""Errors of the interface as its description has them: when, and an example of each."""

from __future__ import annotations

from typing import Any, NamedTuple


class DescribedError(NamedTuple):
    """A status that is no success.

    Attributes:
        when: When it is answered.
        code: Code in the example.
        message: Message in the example.
        hint: Hint in the example.
        headers: Names of the headers that it has.
    """

    when: str
    code: str
    message: str
    hint: str = ""
    headers: tuple[str, ...] = ()


ERRORS = {
    400: DescribedError(
        "The request is malformed, or a parameter is wrong.", "InvalidInput",
        "parameters: confidence must be a number >= 0.0 and <= 1.0",
    ),
    401: DescribedError(
        "The service needs a token, and the request has none that it knows.", "Unauthorized",
        "the request has no token", "send the header Authorization: Bearer TOKEN",
        ("WWW-Authenticate",),
    ),
    404: DescribedError(
        "There is no such model, or no such version.", "NotServed", "there is no model 'yolo'"
    ),
    408: DescribedError(
        "Headers or body did not arrive in time.", "InputTooSlow",
        "only 4096 bytes of the body were here after 10 s",
        "send a smaller file, or raise limits.body_s",
    ),
    413: DescribedError(
        "The body or the image is over the limit.", "InputTooLarge",
        "the request is over the limit of 16777216 bytes",
        "send a smaller file, or raise limits.body_bytes",
    ),
    415: DescribedError(
        "The file is not a JPEG, PNG or WebP, or the body is packed in another way.",
        "UnsupportedImage",
        "the file is not a JPEG, PNG or WebP",
    ),
    422: DescribedError(
        "The image is damaged, or would take too long to decode.", "InvalidImage",
        "the image is damaged or cut off",
    ),
    431: DescribedError(
        "The request line and headers are too long, or too many.", "Http431",
        "the request line and headers are over 32768 bytes or 100 fields",
        "send fewer and shorter headers",
    ),
    500: DescribedError(
        "A fault of the service; its log has the details.", "InternalError", "the server failed",
        "see the server's log",
    ),
    501: DescribedError(
        "The request has a transfer coding other than chunked.", "Http501",
        "the only Transfer-Encoding here is chunked",
    ),
    503: DescribedError(
        "The service has too much to do, or is not ready.", "Overloaded",
        "19 of 20 such requests are answered within 3.1 s, and this one has 1 s",
        "send less at a time, or as a batch with more time (X-Request-Priority)",
        ("Retry-After", "X-Predicted-Wait-Ms"),
    ),
    504: DescribedError(
        "The request was not answered by its deadline.", "DeadlineExceeded",
        "not answered within 1 s",
    ),
    505: DescribedError(
        "The request is of another version of HTTP.", "Http505", "HTTP/2.0 is not spoken here",
        "use HTTP/1.1",
    ),
}  # fmt: skip
# Whatever the route.
COMMON = (400, 401, 408, 431, 500, 501, 503, 505)
OF_INFERENCE = (413, 504)
OF_IMAGES = (413, 415, 422, 504)


def error_responses(statuses: tuple[int, ...], *, protocol: bool) -> dict[str, Any]:
    """References to the answers of `components` for some statuses."""
    kind = "Protocol" if protocol else ""
    return {
        str(status): {"$ref": f"#/components/responses/{kind}Error{status}"}
        for status in sorted({*COMMON, *statuses})
    }


def error_components() -> dict[str, Any]:
    """The answers that `error_responses` refers to."""
    found: dict[str, Any] = {}
    for status, error in ERRORS.items():
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in error.headers}
        shown: dict[str, Any] = {
            "code": error.code, "message": error.message, "hint": error.hint
        }  # fmt: skip
        if error.code == "Overloaded":
            shown["reason"] = "deadline"
        forms = (
            ("Error", "ErrorBody", {"error": shown}),
            (
                "ProtocolError",
                "ProtocolErrorBody",
                {"error": "; ".join(filter(None, (error.message, error.hint)))},
            ),
        )
        for kind, schema, example in forms:
            found[f"{kind}{status}"] = {
                "description": error.when,
                "headers": headers,
                "content": {
                    "application/json": {
                        "schema": {"$ref": f"#/components/schemas/{schema}"},
                        "example": example,
                    }
                },
            }
    return found
