"""Where a bundle comes from, in sentences: who signed it, and what it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recorder.bundle.manifest import Parent
from replay.show.text import inert
from replay.trust import Signed

__all__ = ["custody_sentences", "signed_sentences"]

#: As much of an id as people compare.
_ID_CHARACTERS = 16


def signed_sentences(signed: Signed) -> list[str]:
    """Say who signed a bundle, and what that means."""
    if signed.state == "none":
        return ["Not signed: this says that nothing was damaged, not who made it."]
    if signed.remark is not None:
        return [f"Signed, but that cannot be checked here: {inert(signed.remark, 300)}."]
    sentences = []
    for signature in signed.signatures:
        key = signature.key[:_ID_CHARACTERS]
        if not signature.valid:
            sentences.append(f"A signature by key {key} does not fit the manifest.")
        elif signature.trusted:
            sentences.append(f"Signed by {inert(signature.name, 100)}, key {key}, which you trust.")
        else:
            sentences.append(f"Signed by key {key}, which is not among those you trust.")
    return sentences


def custody_sentences(chain: Sequence[Parent], say: Callable[[object, int], str]) -> list[str]:
    """Say what a bundle was made from, newest first, and how."""
    sentences = []
    for number, parent in enumerate(chain):
        of = "Made" if number == 0 else "That one was made"
        sentences.append(
            f"{of} from bundle {say(parent.bundle[:_ID_CHARACTERS], _ID_CHARACTERS)} by {say(parent.operation, 20)}."
        )
    return sentences
