"""Which kernels a CPU gets: the levels that torch, oneDNN and MKL choose between, from the CPU's flags.

torch takes the word of its environment variable even for instructions the CPU does not have (and then dies of
SIGILL), so what may be asked of this machine is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping

from recorder.bundle.values import JsonValue

__all__ = ["ATEN_LEVELS", "ONEDNN_LEVELS", "aten_capability", "aten_native", "flags_of", "mkl_level", "onednn_level"]

#: torch's CPU capability, as it reports it, worst first, with the value of ATEN_CPU_CAPABILITY that asks for it.
ATEN_LEVELS: dict[str, str] = {"DEFAULT": "default", "AVX2": "avx2", "AVX512": "avx512"}

#: Values of ONEDNN_MAX_CPU_ISA on x86, worst first, with the flags of /proc/cpuinfo each adds to those before it on
#: its line of descent.
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
_AMX = _AVX512 | {"avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}
ONEDNN_LEVELS: dict[str, frozenset[str]] = {
    "SSE41": frozenset({"sse4_1"}),
    "AVX": frozenset({"avx"}),
    "AVX2": frozenset({"avx2"}),
    "AVX2_VNNI": frozenset({"avx2", "avx_vnni"}),
    "AVX2_VNNI_2": frozenset({"avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"}),
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": _AVX512 | {"avx512_vnni"},
    "AVX512_CORE_BF16": _AVX512 | {"avx512_vnni", "avx512_bf16"},
    "AVX512_CORE_FP16": _AVX512 | {"avx512_vnni", "avx512_bf16", "avx512_fp16"},
    "AVX512_CORE_AMX": _AMX,
    "AVX512_CORE_AMX_FP16": _AMX | {"amx_fp16"},
}


def flags_of(cpu: Mapping[str, JsonValue]) -> frozenset[str]:
    """The instruction set flags of a recorded or local CPU description; empty when there are none."""
    flags = cpu.get("flags")
    return frozenset(flag for flag in flags if isinstance(flag, str)) if isinstance(flags, list) else frozenset()


def aten_capability(reported: object) -> str | None:
    """One of ATEN_LEVELS for what torch reported; None for another architecture's levels."""
    if reported in ("DEFAULT", "NO AVX"):
        return "DEFAULT"
    return reported if isinstance(reported, str) and reported in ATEN_LEVELS else None


def aten_native(flags: frozenset[str]) -> str:
    """The highest of ATEN_LEVELS that a CPU with these flags runs."""
    if flags >= _AVX512 | {"fma"}:
        return "AVX512"
    return "AVX2" if flags >= {"avx2", "fma"} else "DEFAULT"


def onednn_level(flags: frozenset[str], variables: Mapping[str, str]) -> str | None:
    """The instruction set oneDNN uses on a CPU with these flags under these variables; None off x86."""
    having = [level for level, needed in ONEDNN_LEVELS.items() if flags >= needed]
    if not having:
        return None
    cap = variables.get("ONEDNN_MAX_CPU_ISA", variables.get("DNNL_MAX_CPU_ISA", "ALL"))
    if cap in ONEDNN_LEVELS:
        allowed = list(ONEDNN_LEVELS)[: list(ONEDNN_LEVELS).index(cap) + 1]
        having = [level for level in having if level in allowed] or ["SSE41"]
    return having[-1]


def mkl_level(cpu: Mapping[str, JsonValue]) -> str | None:
    """The value of MKL_ENABLE_INSTRUCTIONS that names what MKL would choose; None where MKL does not listen to it."""
    flags = flags_of(cpu)
    if cpu.get("vendor") != "GenuineIntel":
        return None
    if flags >= _AVX512 | {"avx512cd"}:
        return "AVX512"
    return "AVX2" if "avx2" in flags else None
