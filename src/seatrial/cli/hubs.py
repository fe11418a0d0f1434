"""The environment's settings of the model hubs."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from seatrial.models.hubs.access import HUGGINGFACE, MODELSCOPE, Access, Hub, endpoint
from seatrial.system.text import read_text

_TRUE = ("1", "on", "true", "yes")


def access() -> Access:
    """Endpoints and tokens, from the settings that the hubs' own clients read.

    Raises:
        InvalidConfig: An endpoint is not an address.
    """
    return Access(huggingface=_huggingface(), modelscope=_modelscope())


def _huggingface() -> Hub:
    hub = HUGGINGFACE
    if value := os.environ.get("HF_ENDPOINT"):
        hub = msgspec.structs.replace(hub, endpoint=endpoint(value, setting="HF_ENDPOINT"))
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token and hub.endpoint == HUGGINGFACE.endpoint:
        token = _saved_token()  # a mirror gets a token only if it is given one
    offline = next((n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if _is_set(n)), "")
    return msgspec.structs.replace(hub, token=token, offline_setting=offline)


def _saved_token() -> str:
    """The token that ``hf auth login`` saved; empty where there is none."""
    if _is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return ""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
    return read_text(path).strip() if path.is_file() and os.access(path, os.R_OK) else ""


def _modelscope() -> Hub:
    hub = MODELSCOPE
    for setting in ("MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"):  # the second is the older one
        if value := os.environ.get(setting):
            hub = msgspec.structs.replace(hub, endpoint=endpoint(value, setting=setting))
            break
    return msgspec.structs.replace(hub, token=os.environ.get("MODELSCOPE_API_TOKEN", "").strip())


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in _TRUE
