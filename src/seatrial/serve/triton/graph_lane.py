"""An engine whose graph another model of the same Triton runs."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from seatrial.engines.base import Arrays, Lane
from seatrial.errors import EngineFailed
from seatrial.manifest import Manifest


class GraphLane:
    """Asks the model for one run at a time."""

    threads = 1
    lends = True  # whatever the backend does with the memory of an answer

    def __init__(self, model: str, outputs: list[str], backend: Any) -> None:
        self._model = model
        self._outputs = outputs
        self._backend = backend

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`.

        Raises:
            EngineFailed: The model answered with an error: it is not loaded, or its queue is full.
        """
        utils = self._backend
        asked = utils.InferenceRequest(
            model_name=self._model,
            requested_output_names=self._outputs,
            inputs=[utils.Tensor(name, array) for name, array in feeds.items()],
            preferred_memory=utils.PreferredMemory(utils.TRITONSERVER_MEMORY_CPU),
        )
        answer = asked.exec()
        if answer.has_error():
            raise EngineFailed(f"the model {self._model} failed: {answer.error().message()}")
        return {
            name: utils.get_output_tensor_by_name(answer, name).as_numpy() for name in self._outputs
        }


class GraphEngine:
    """The model of the graph as an engine of one lane.

    Args:
        model: Name of the model in Triton.
        manifest: Names, dtypes and shapes of its inputs and outputs.
        backend: The module ``triton_python_backend_utils``.
    """

    name = "triton"
    device = "triton"
    precision = "triton"
    wide: Lane | None = None

    def __init__(self, model: str, manifest: Manifest, backend: Any) -> None:
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        names = [spec.name for spec in manifest.outputs]
        self.narrow: tuple[Lane, ...] = (GraphLane(model, names, backend),)

    def properties(self) -> dict[str, str]:
        """See `seatrial.engines.base.Engine.properties`."""
        return {}

    def close(self) -> None:
        """See `seatrial.engines.base.Engine.close`."""
        self.narrow = ()
