"""MLServer's runtime that calls ONNX Runtime; the bench names it in model-settings.json."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from session import open_session

DATATYPES = {"float32": "FP32", "int64": "INT64"}


class OnnxRuntime(MLModel):
    """One session; inputs and outputs as NumPy arrays."""

    async def load(self) -> bool:
        parameters = self.settings.parameters
        self._session = open_session(parameters.uri, parameters.extra["threads"])
        self._names = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        answers = zip(self._names, self._session.run(None, inputs), strict=True)
        outputs = [output(name, array) for name, array in answers]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def output(name: str, array: np.ndarray) -> ResponseOutput:
    """As NumpyCodec would, which gives vectors a second dimension."""
    datatype = DATATYPES[array.dtype.name]
    return ResponseOutput(
        name=name, shape=list(array.shape), datatype=datatype, data=array.ravel().tolist()
    )
