"""On a GPU: are the results right, does a checker complain, how fast is it beside the copy rate and others?

    python benchmarks/gpu.py prepare --target cuda:sm_90 --carry DIR    # anywhere: compiles into DIR
    python benchmarks/gpu.py check --carry DIR [--small]                # the family against float64
    python benchmarks/gpu.py sanitize --carry DIR                       # the same under compute-sanitizer
    python benchmarks/gpu.py time --carry DIR [--json FILE]             # forward and backward, in GB/s

The last three need a device, NumPy, CuPy and cuda-core, and PyTorch to compare with, and Triton, Liger and
QuACK where they are installed; nothing of ours is compiled there, and neither numba-cuda nor NVVM is
imported. Rates count the bytes that have to be read and written, once: x and y forward; x, dy and dx
backward. A figure is the median of rounds in which all contenders take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lncompile as lnc
from lncompile.axes import ELLIPSIS, count
from lncompile.backends.cuda.target import find
from lncompile.device_kernel import DeviceKernel
from lncompile.interpret import interpret
from lncompile.norm import dispatcher_of
from lncompile.specialization import constants_of
from lncompile.trace import trace

FEATURES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)
DTYPES = ("bfloat16", "float16", "float32")
#: Bytes of x: enough that no cache holds it.
BYTES = 256 << 20

#: What `check` runs: norm, shape, sizes of split axes.
FAMILY: tuple[tuple[Any, tuple[int, ...], dict[str, int]], ...] = (
    *((lnc.layer_norm, (67, features), {}) for features in (8, 33, 256, 1002, 1024, 4096, 16384, 65536)),
    *((lnc.rms_norm, (67, features), {}) for features in (64, 1024, 8192)),
    (lnc.add_layer_norm, (67, 768), {}),
    (lnc.add_rms_norm, (67, 1024), {}),
    (lnc.ada_layer_norm, (3, 20, 512), {}),
    (lnc.l2_norm, (67, 512), {}),
    (lnc.softmax, (67, 1000), {}),
    (lnc.log_softmax, (67, 1024), {}),
    (lnc.dyt, (67, 512), {}),
    (lnc.batch_norm, (8, 16, 14, 14), {}),
    (lnc.batch_norm.over("[n h w] c"), (8, 14, 14, 64), {}),
    (lnc.batch_norm_inference, (8, 16, 14, 14), {}),
    (lnc.group_norm, (4, 32, 14, 14), {"g": 8}),
    (lnc.group_norm.over("n [h w] (g [c])"), (4, 14, 14, 32), {"g": 8}),
    (lnc.instance_norm, (4, 8, 14, 14), {}),
    (lnc.instance_norm.over("n [h w] c"), (4, 14, 14, 32), {}),
)

#: Half the distance of 1 to the next number, a few times.
TOLERANCE = {"float32": 4e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def configurations() -> Iterator[tuple[Any, tuple[int, ...], str, dict[str, int]]]:
    """All that is compiled: norm, shape, dtype, sizes."""
    for norm, shape, sizes in FAMILY:
        for dtype in DTYPES:
            yield norm, shape, dtype, sizes
    for norm in (lnc.layer_norm, lnc.rms_norm):
        for features in FEATURES:
            for dtype in DTYPES:
                yield norm, (1, features), dtype, {}


def stem(norm: Any, shape: tuple[int, ...], dtype: str) -> str:
    """The name of a kernel's files: batch sizes do not matter, but which axes there are does."""
    pattern = "".join(c if c.isalnum() else "_" for c in dispatcher_of(norm).equation.pattern.text)
    return f"{norm.__name__}-{pattern}-{'x'.join(map(str, shape[1:]))}-{dtype}"


def prepare(target: str, directory: Path) -> None:
    """Compile everything into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for norm, shape, dtype, sizes in configurations():
        path = directory / f"{stem(norm, shape, dtype)}.json"
        if path.exists():
            continue
        made = lnc.compile(norm, shape=shape, dtype=dtype, target=target, **sizes)
        kernel = made.lnc_dispatcher.kernel  # type: ignore[attr-defined]
        path.with_suffix(".bin").write_bytes(kernel.library)
        path.write_text(json.dumps(kernel.meta))
        print(path.stem, flush=True)


def carried(norm: Any, shape: tuple[int, ...], dtype: str, directory: Path) -> DeviceKernel:
    """A kernel that `prepare` left."""
    path = directory / f"{stem(norm, shape, dtype)}.json"
    meta = json.loads(path.read_text())
    library = path.with_suffix(".bin").read_bytes()
    return DeviceKernel(dispatcher_of(norm).signature, library, meta, {}, find(meta["target"]))


# Right results


def check(directory: Path, small: bool) -> int:
    """Compare the family with float64; the number of results that are off."""
    import cupy

    wrong = 0
    for norm, shape, sizes in FAMILY:
        if small and int(np.prod(shape)) > 100_000:
            continue
        for dtype in DTYPES:
            wrong += sum(_check_one(cupy, norm, shape, dtype, sizes, directory))
    cupy.cuda.Device().synchronize()
    print("all right" if not wrong else f"{wrong} results are off")
    return wrong


def _check_one(
    cupy: Any, norm: Any, shape: tuple[int, ...], dtype: str, sizes: dict[str, int], directory: Path
) -> list[bool]:
    dispatcher = dispatcher_of(norm)
    equation, kernel = dispatcher.equation, carried(norm, shape, dtype, directory)
    first = equation.arguments[0]
    from lncompile import axes as ax
    from lncompile.dtypes import TABLE
    from lncompile.passes import run_passes

    solved: dict[str, Any] = ax.solve({first.name: (first.dims, shape)}, sizes, equation.pattern.axes)
    counts = {name: count(name, solved) for name in equation.pattern.axes}
    fixed = {name: counts[name] for name in equation.fixed}
    dtypes = {argument.name: dtype for argument in equation.arguments}
    program = trace(equation, dtypes, dict(constants_of(equation, {})), fixed, None)
    pair = run_passes(program, lambda passed: passed)
    random = np.random.default_rng(0)

    def made(dims: tuple[Any, ...]) -> Any:
        flat = [
            n for dim in dims for n in (solved[ELLIPSIS] if dim == (ELLIPSIS,) else [_product(dim, counts)])
        ]
        return random.uniform(-2, 2, flat).astype(TABLE[dtype].numpy)

    values = {argument.name: made(argument.dims) for argument in equation.arguments}
    y, ctx = kernel.forward([cupy.asarray(value) for value in values.values()])
    outputs = y if kernel.returns_tuple else (y,)
    entering = [random.uniform(-2, 2, out.shape).astype(TABLE[dtype].numpy) for out in outputs]
    given = tuple(map(cupy.asarray, entering))
    gradients = kernel.backward(given if kernel.returns_tuple else given[0], ctx)

    axes = {name: counts.get(name, 1) for name in counts}
    reads: dict[str, Any] = dict(values)
    cotangents = [node for node in pair.backward.inputs if node.role == "cotangent"]
    reads |= {node.name: array for node, array in zip(cotangents, entering, strict=True)}
    forward = _interpreted(pair.forward, reads, axes)
    backward = _interpreted(pair.backward, reads | forward, axes)
    names = [out.name for out in pair.forward.outputs if out.role == "output"]
    found = dict(zip(names, outputs, strict=True))
    of = {out.of: out.name for out in pair.backward.outputs}
    found |= {of[name]: g for name, g in gradients._asdict().items() if g is not None}
    off = []
    for name, array in found.items():
        want = (forward | backward)[name].reshape(array.shape)
        error = np.max(np.abs(cupy.asnumpy(array).astype(np.float64) - want)) / max(1.0, np.max(np.abs(want)))
        off.append(not error <= TOLERANCE[dtype])
        if off[-1]:
            print(f"{norm.__name__} {equation.pattern.text} {shape} {dtype}: {name} is off by {error:.1e}")
    return off


def _product(dim: tuple[str, ...], counts: dict[str, int]) -> int:
    return int(np.prod([counts[name] for name in dim]))


def _interpreted(program: Any, reads: dict[str, Any], axes: dict[str, int]) -> dict[str, Any]:
    """A program's outputs in float64; its axes may be merged ones."""
    fitted = {
        node.name: np.asarray(reads[node.name], np.float64).reshape([_merged(d, axes) for d in node.dims])
        for node in program.inputs
    }
    return interpret(program, fitted)


def _merged(axis: str, axes: dict[str, int]) -> int:
    return int(np.prod([axes[name] for name in axis.split("*")]))


def sanitize(directory: Path) -> int:
    """`check --small` under the memory, race and initialisation checkers; the number that complain."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        print("compute-sanitizer is not installed")
        return 1
    failed = 0
    for checker in ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [tool, "--tool", checker, "--error-exitcode", "1", sys.executable, __file__]
        failed += subprocess.run([*command, "check", "--small", "--carry", str(directory)]).returncode != 0
    return failed


# Rates


def rates(directory: Path, path: Path | None) -> None:
    """Print, and write to ``path``, the rates of all contenders in GB/s."""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    table: list[dict[str, Any]] = []
    for norm in (lnc.layer_norm, lnc.rms_norm):
        for dtype in DTYPES:
            for features in FEATURES:
                row = {"norm": norm.__name__, "dtype": dtype, "features": features}
                row |= _rates_of(cupy, norm, features, dtype, directory)
                table.append(row)
                print(json.dumps(row), flush=True)
    if path is not None:
        path.write_text(json.dumps({"device": name, "rates": table}, indent=1) + "\n")


def _rates_of(cupy: Any, norm: Any, features: int, dtype: str, directory: Path) -> dict[str, float]:
    from lncompile.dtypes import TABLE

    element = TABLE[dtype]
    rows = BYTES // element.itemsize // features
    kernel = carried(norm, (1, features), dtype, directory)
    random = cupy.random.default_rng(0)

    def array(*shape: int) -> Any:
        return random.standard_normal(shape, dtype=np.float32).astype(element.numpy)

    x, dy = array(rows, features), array(rows, features)
    parameters = [array(features) for _ in kernel.signature.arguments[1:]]
    y, ctx = kernel.forward([x, *parameters])
    gradients = kernel.backward(dy, ctx)
    contenders: dict[str, tuple[Callable[[], object], int]] = {
        "copy": (lambda: cupy.copyto(y, x), 2),
        "forward": (lambda: kernel.forward([x, *parameters], y), 2),
        "backward": (lambda: kernel.backward(dy, ctx, gradients), 3),
    }
    contenders |= _peers(norm, x, dy, parameters)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(15):
        for name, (run, _) in contenders.items():
            times[name].append(_seconds(cupy, run))
    size = rows * features * element.itemsize
    return {
        name: round(moved * size / statistics.median(times[name]) / 1e9, 1)
        for name, (_, moved) in contenders.items()
    }


def _seconds(cupy: Any, run: Callable[[], object]) -> float:
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop)) / 1e3


def _peers(norm: Any, x: Any, dy: Any, parameters: list[Any]) -> dict[str, tuple[Callable[[], object], int]]:
    """PyTorch, eager and compiled, and what else is installed, on the same memory and stream."""
    try:
        import torch
        import torch.nn.functional as functional
    except ImportError:
        return {}
    import cupy

    def shared(array: Any) -> Any:
        if array.dtype.itemsize == 2 and array.dtype != np.float16:
            return torch.from_dlpack(array.view(np.uint16).view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(array)

    shape = (x.shape[1],)
    tx, tdy = shared(x).requires_grad_(), shared(dy)
    tp = [shared(array).requires_grad_() for array in parameters]
    function = getattr(functional, norm.__name__)
    compiled = torch.compile(lambda *args: function(args[0], shape, *args[1:]))
    contenders = {"torch": lambda *args: function(args[0], shape, *args[1:]), "torch.compile": compiled}
    contenders |= _extras(norm)
    stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for name, run in contenders.items():
        try:
            with torch.cuda.stream(stream):
                y = run(tx, *tp)
                torch.autograd.grad(y, [tx, *tp], tdy, retain_graph=True)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
            continue

        def forward(run: Any = run) -> object:
            with torch.cuda.stream(stream), torch.no_grad():
                return run(tx, *tp)

        def backward(y: Any = y) -> object:
            with torch.cuda.stream(stream):
                return torch.autograd.grad(y, [tx, *tp], tdy, retain_graph=True)

        found[f"{name} forward"] = (forward, 2)
        found[f"{name} backward"] = (backward, 3)
    return found


def _extras(norm: Any) -> dict[str, Callable[..., Any]]:
    """Triton with a kernel of our own, Liger and QuACK, where they are installed."""
    found: dict[str, Callable[..., Any]] = {}
    try:
        from benchmarks import triton_norms

        found["Triton"] = getattr(triton_norms, norm.__name__)
    except ImportError:
        pass
    try:
        from liger_kernel.transformers import functional as liger

        name = {"layer_norm": "liger_layer_norm", "rms_norm": "liger_rms_norm"}[norm.__name__]
        found["Liger"] = lambda *args: getattr(liger, name)(*args, 1e-5)
    except ImportError:
        pass
    if norm.__name__ == "rms_norm":
        try:
            from quack import rmsnorm

            found["QuACK"] = lambda x, weight: rmsnorm(x, weight, eps=1e-5)
        except ImportError:
            pass
    return found


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("prepare", "check", "sanitize", "time"))
    parser.add_argument("--carry", type=Path, required=True)
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    match args.what:
        case "prepare":
            prepare(args.target, args.carry)
        case "check":
            return int(check(args.carry, args.small) > 0)
        case "sanitize":
            return int(sanitize(args.carry) > 0)
        case "time":
            rates(args.carry, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
