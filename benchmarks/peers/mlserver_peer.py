"""MLServer's own way: an `MLModel`; see run.py."""

import detecting
import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Peer(MLModel):
    """A detector."""

    async def load(self) -> bool:
        """Open the lane of a worker."""
        self._detect = detecting.open_detect()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The boxes of an image."""
        (image,) = Base64Codec.decode_input(payload.inputs[0])
        rows = self._detect(image)["detections"]
        found = np.array([[*row["box"], row["confidence"], row["class_id"]] for row in rows])
        names = [row["label"] for row in rows]
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                NumpyCodec.encode_output("boxes", found.reshape(-1, 6)),
                StringCodec.encode_output("labels", names),
            ],
        )
