"""The columns of the matrix: which one setting is planted, and which shell the replay is started from."""

from __future__ import annotations

from dataclasses import dataclass, field

from recorder.environment import describe_cpu
from replay.numerics.instruction_sets import ATEN_LEVELS, aten_native, flags_of

__all__ = ["BASE", "CELLS", "MatrixCell", "PLAIN_SHELL", "cells_of_this_machine"]

#: Every variable that a cell or a shell sets.
PLAIN_SHELL = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixCell:
    """One planted setting."""

    planted: str  #: the factor's name
    variables: dict[str, str] = field(default_factory=dict)  #: of the recording process, besides PLAIN_SHELL
    shell: dict[str, str] = field(default_factory=dict)  #: of the replaying one, besides PLAIN_SHELL
    shell_like: str = "base"  #: the cell that was recorded as this shell would have
    batch: bool = False
    mkldnn: bool = True
    channels_last: bool = False
    autocast: bool = False
    aten: str = "DEFAULT"  #: the least capability of the CPU that it takes


#: What every cell is compared with: nothing planted.
BASE = "base"

CELLS: dict[str, MatrixCell] = {
    BASE: MatrixCell(planted=""),
    "threads 2": MatrixCell(planted="threads", variables={"OMP_NUM_THREADS": "2"}),
    "threads 1": MatrixCell(planted="threads", shell={"OMP_NUM_THREADS": "2"}, shell_like="threads 2"),
    "batch 4": MatrixCell(planted="batch", batch=True),
    "aten default": MatrixCell(planted="aten instruction set", variables={"ATEN_CPU_CAPABILITY": "default"}),
    "aten avx2": MatrixCell(planted="aten instruction set", variables={"ATEN_CPU_CAPABILITY": "avx2"}, aten="AVX512"),
    "aten avx512": MatrixCell(
        planted="aten instruction set",
        shell={"ATEN_CPU_CAPABILITY": "default"},
        shell_like="aten default",
        aten="AVX512",
    ),
    "onednn avx2": MatrixCell(planted="onednn instruction set", variables={"ONEDNN_MAX_CPU_ISA": "AVX2"}, aten="AVX2"),
    "onednn sse41": MatrixCell(planted="onednn instruction set", variables={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "mkl compatible": MatrixCell(planted="mkl mode", variables={"MKL_CBWR": "COMPATIBLE"}),
    "mkldnn off": MatrixCell(planted="mkldnn", mkldnn=False),
    "channels_last": MatrixCell(planted="memory format", channels_last=True),
    "bf16 autocast": MatrixCell(planted="autocast", autocast=True),
}


def cells_of_this_machine() -> list[str]:
    """The cells whose instruction sets this CPU has, without the base."""
    order = list(ATEN_LEVELS)
    native = order.index(aten_native(flags_of(describe_cpu())))
    return [name for name, cell in CELLS.items() if name != BASE and order.index(cell.aten) <= native]
