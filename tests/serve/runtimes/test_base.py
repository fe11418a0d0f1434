"""What every runtime offers."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from seatrial.deployment import RuntimeName
from seatrial.errors import InvalidConfig
from seatrial.serve.runtimes.base import Runtime
from seatrial.serve.runtimes.registry import RUNTIMES, runtime


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("method", [name for name in vars(Runtime) if not name.startswith("_")])
def test_every_runtime_has_the_methods_with_their_arguments(name: str, method: str) -> None:
    offered = inspect.signature(getattr(type(runtime(name)), method))
    assert offered == inspect.signature(getattr(Runtime, method))


def test_the_names_are_those_of_deployments() -> None:
    assert sorted(RUNTIMES) == sorted(get_args(RuntimeName))
    with pytest.raises(InvalidConfig, match="no runtime 'gunicorn'") as refusal:
        runtime("gunicorn")
    assert "uvicorn" in refusal.value.hint
