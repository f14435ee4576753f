"""PTX to code for one architecture, by nvJitLink, and that code as text. Needs no GPU and no driver."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lncompile.backends.cuda.target import CudaTarget
from lncompile.errors import LncValueError


@dataclass(frozen=True)
class Linked:
    """A cubin and what ptxas says of it: registers a thread, bytes of spills, bytes of shared memory."""

    cubin: bytes
    registers: int
    spills: int
    shared: int


def load_libraries() -> None:
    """Load NVIDIA's libraries that compile and link.

    Raises:
        ImportError: one is not installed.
    """
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    for name in ("nvrtc", "nvvm", "nvJitLink"):
        try:
            load_nvidia_dynamic_lib(name)
        except DynamicLibNotFoundError as error:
            raise ImportError(f"no library {name}") from error


def link(ptx: str, target: CudaTarget) -> Linked:
    """The cubin of a PTX module.

    Where ptxas moves so many loads ahead of what uses them that registers do not hold all, it does so with
    less optimisation: layer norm backward with 16384 features in float32, sm_80, 60 bytes of spills at 128
    registers, none and 120 registers at -O1, with code that is 2% longer.
    """
    made = _linked(ptx, target, "-O3")
    return min(made, _linked(ptx, target, "-O1"), key=lambda one: one.spills) if made.spills else made


def _linked(ptx: str, target: CudaTarget, level: str) -> Linked:
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch=target.arch, verbose=True, ptxas_options=["-v", level])
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
    cubin = bytes(linker.link("cubin").code)
    log = linker.get_info_log()
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", log)]
    spills = [int(number) for number in re.findall(r"(\d+) bytes spill", log)]
    shared = [int(number) for number in re.findall(r"Used .*?(\d+) bytes smem", log)]
    return Linked(cubin, max(registers, default=0), sum(spills), max(shared, default=0))


def disassembled(cubin: bytes) -> str:
    """The SASS of a cubin.

    Raises:
        LncValueError: NVIDIA's disassembler is not installed.
    """
    tool = _nvdisasm()
    with tempfile.TemporaryDirectory(prefix="lncompile-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([tool, "-c", str(path)], capture_output=True, text=True, check=True)
    # What stands before the code names the file.
    return "\n".join(line for line in done.stdout.splitlines() if str(path) not in line) + "\n"


def _nvdisasm() -> str:
    import shutil
    import sys

    folders = [str(path) for entry in sys.path for path in Path(entry or ".").glob("nvidia/*/bin")]
    found = shutil.which("nvdisasm") or shutil.which("nvdisasm", path=":".join(folders))
    if found is None:
        raise LncValueError("stage sass: expected nvdisasm, of the package nvidia-cuda-nvdisasm; got none")
    return found
