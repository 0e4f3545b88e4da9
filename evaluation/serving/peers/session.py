"""ONNX Runtime as every Python peer here opens it. Imported by the scripts beside it."""

from __future__ import annotations

import onnxruntime


def open_session(path: str, threads: int) -> onnxruntime.InferenceSession:
    """The model, one inference on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
