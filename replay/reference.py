"""The portable reference: what the portable profile computed the first time, to be held against on any x86 machine.

Portable bits are not production's bits, so they are compared among themselves: the first replay with ``--numerics
portable --save`` keeps a digest of each answer in the result file, later ones are bit-exact when theirs are equal. The
file is untrusted like a bundle. All a forged one can do is to make a replay miss a match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Environment
from replay.show.text import inert
from replay.verdict import CallVerdict, Level

__all__ = ["Held", "PortableReference", "earlier_reference", "hold_against"]

#: The profile fixes x86 instruction sets and MKL's mode, which no other architecture has.
_ARCHITECTURES = ("x86_64", "amd64")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableReference:
    """Digests of the answers under the portable profile, and where they were first computed."""

    torch: str  #: version; another one may compute other bits
    cpu: str  #: model name, a claim
    calls: dict[int, str] = field(
        default_factory=dict
    )  #: sha256 of the answer (`replay.exchange.digest_of`) by call id

    def to_json(self) -> dict[str, Any]:
        """The form of replay.schema.json."""
        calls = [{"call": call, "digest": digest} for call, digest in sorted(self.calls.items())]
        return {"torch": self.torch, "cpu": self.cpu, "calls": calls}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PortableReference:
        """Build it from what replay.schema.json has accepted."""
        calls = {each["call"]: each["digest"] for each in data["calls"]}
        return cls(torch=inert(data["torch"], 80), cpu=inert(data["cpu"], 120), calls=calls)


def earlier_reference(path: Path, bundle: str) -> tuple[PortableReference | None, str]:
    """Read the reference that an earlier replay of this bundle left, or say why what is there is not one."""
    from replay.result import read_result

    if not path.exists():
        return None, ""
    try:
        data = read_result(path)
    except BundleError as error:
        return None, f"{inert(path.name, 120)} was not used as a portable reference: {inert(error, 200)}"
    if data["bundle"] != bundle:
        return None, f"{inert(path.name, 120)} is the result of another bundle and no portable reference of this one"
    found = data.get("portable_reference")
    return (PortableReference.from_json(found) if found is not None else None), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What came of holding a portable replay against the reference."""

    reference: PortableReference | None = None  #: to keep
    note: str = ""  #: a part of the conclusion
    verdicts: dict[int, CallVerdict] = field(default_factory=dict)  #: those that changed, by call id


def hold_against(
    path: Path | None,
    bundle: str,
    environment: Environment | None,
    digests: Mapping[int, str],
    verdicts: Mapping[int, CallVerdict],
) -> Held:
    """Compare a portable replay with what an earlier one left, and say what to keep.

    Args:
        path: of the result file, which need not be there; None: there is no place for one.
        bundle: id.
        environment: of the worker; None where the calls ran on a GPU.
        digests: of the answers, by call id.
        verdicts: against the recording, by call id.
    """
    if environment is None or not environment.platform.endswith(_ARCHITECTURES):
        return Held(note="the portable profile is for x86 CPUs, so there is no portable reference here")
    earlier, note = earlier_reference(path, bundle) if path is not None else (None, "")
    reference = _make_reference(environment, digests, earlier)
    if earlier is None:
        return Held(reference=reference, note=note)
    torch = str(environment.libraries.get("torch.version"))
    met = sum(earlier.calls.get(call) == digest for call, digest in digests.items())
    return Held(
        reference=reference,
        note=f"{met} of {len(digests)} calls have the bits of the portable reference, computed by torch "
        f"{earlier.torch} on {earlier.cpu}",
        verdicts={call: _against_reference(verdicts[call], digest, earlier, torch) for call, digest in digests.items()},
    )


def _make_reference(
    environment: Environment, digests: Mapping[int, str], earlier: PortableReference | None
) -> PortableReference:
    """The reference to keep: what stands already, and the calls it does not have, computed by the same torch."""
    torch = str(environment.libraries.get("torch.version", "unknown"))
    if earlier is None:
        return PortableReference(torch=torch, cpu=inert(environment.cpu.get("model"), 120), calls=dict(digests))
    if earlier.torch != torch:
        return earlier
    return replace(earlier, calls={**digests, **earlier.calls})


def _against_reference(verdict: CallVerdict, digest: str, reference: PortableReference, torch: str) -> CallVerdict:
    """Raise a verdict to bit-exact where the answer has the reference's digest.

    Only a verdict that holds already is raised: an answer that decides otherwise than the recorded one stays so,
    however portable it is.
    """
    known = reference.calls.get(verdict.call)
    if known is None or verdict.level not in (Level.BIT_EXACT, Level.WITHIN_TOLERANCE, Level.SAME_DECISION):
        return verdict
    if known == digest:
        reason = f"bit-exact against the portable reference; against the recorded answer: {verdict.level.value}"
        return replace(verdict, level=Level.BIT_EXACT, first_difference=None, reason=reason)
    other = "" if reference.torch == torch else f", which torch {reference.torch} computed (here: {torch})"
    if verdict.level is Level.BIT_EXACT:
        return replace(verdict, reason=f"the recorded bits, but not those of the portable reference{other}")
    return replace(verdict, reason=f"not the bits of the portable reference{other}")
