"""ONNX Runtime: a model of one operator, forward alone, since the runtime does not train."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..grid import EPS, GROUPS, Case
from . import NotOffered, Prepared
from .data import aligned, arrays

#: Operator, its attributes, and the opset that has it.
_OPERATORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "layer_norm": ("LayerNormalization", {"axis": -1, "epsilon": EPS}, 17),
    "rms_norm": ("RMSNormalization", {"axis": -1, "epsilon": EPS}, 23),
    "batch_norm": ("BatchNormalization", {"epsilon": EPS, "training_mode": 1}, 17),
    "group_norm": ("GroupNormalization", {"epsilon": EPS, "num_groups": GROUPS}, 21),
    "instance_norm": ("InstanceNormalization", {"epsilon": EPS}, 17),
}

_threads = 1


def start(threads: int) -> dict[str, str]:
    """Import it."""
    global _threads
    _threads = threads
    import onnx
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}


def prepare(case: Case, mode: str) -> Prepared:
    """The case as a session; in mode ``mapped``, inputs and output are bound to memory."""
    if case.phase == "backward":
        raise NotOffered("no gradients")
    if case.layout == "last":
        raise NotOffered("channels come first")
    import onnxruntime

    given = arrays(case, mode)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(case), options, providers=["CPUExecutionProvider"])
    feed = dict(zip(("x", "weight", "bias"), (given.x, *given.parameters), strict=False))
    if mode == "called":
        return Prepared(
            {"": "session.run(None, feed)"},
            {"session": session, "feed": feed},
            lambda: [session.run(None, feed)[0]],
        )
    y = aligned(given.x.shape, given.x.dtype)
    binding = session.io_binding()
    # Values that share the arrays' memory; binding arrays would copy them.
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feed.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    result = onnxruntime.OrtValue.ortvalue_from_numpy(y)
    binding.bind_ortvalue_output("y", result)
    names = {"session": session, "binding": binding, "kept": (values, feed)}
    return Prepared({"": "session.run_with_iobinding(binding)"}, names, lambda: [result.numpy()])


def _model(case: Case) -> bytes:
    """The serialized model; statistics that batch norm moves along are constants."""
    from onnx import TensorProto, checker, helper, numpy_helper

    operator, attributes, opset = _OPERATORS[case.norm]
    kind = getattr(TensorProto, {"float32": "FLOAT", "float64": "DOUBLE"}.get(case.dtype, case.dtype.upper()))
    parameters = ["weight", "bias"] if case.has_bias else ["weight"]
    constants, outputs = [], ["y"]
    if case.norm == "batch_norm":
        zeros = np.zeros(case.channels, np.float32)
        constants = [numpy_helper.from_array(zeros, name) for name in ("mean", "var")]
        outputs += ["new_mean", "new_var"]
    node = helper.make_node(
        operator, ["x", *parameters, *(constant.name for constant in constants)], outputs, **attributes
    )
    graph = helper.make_graph(
        [node],
        case.norm,
        [
            helper.make_tensor_value_info("x", kind, case.shape),
            *(helper.make_tensor_value_info(name, kind, (case.channels,)) for name in parameters),
        ],
        [helper.make_tensor_value_info("y", kind, case.shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
