"""Which tensors a module holds, and how a change of them is noticed."""

from __future__ import annotations

import torch
from torch import nn

from recorder.models import layouts_of, tensors_of_module, training_modules_of, weights_version
from tests.models.networks import Oddities, ResNet, seeded


def test_every_tensor_is_found_by_name_and_sorted() -> None:
    """Parameters, buffers of both kinds, attributes, and tensors inside lists, tuples and dicts."""
    tensors = tensors_of_module(seeded(Oddities))
    assert list(tensors) == [
        "anchors.0",
        "anchors.1.0",
        "decode.weight",
        "embed.weight",
        "mean",
        "named.bias",
        "scale",
    ]


def test_tied_tensors_keep_every_name() -> None:
    """One tensor, two names; a shared submodule likewise."""
    model = seeded(Oddities)
    tensors = tensors_of_module(model)
    assert tensors["decode.weight"] is tensors["embed.weight"] is model.embed.weight
    shared = nn.Linear(2, 2)
    assert len(tensors_of_module(nn.Sequential(shared, shared))) == 4


def test_a_module_that_contains_itself_is_walked_once() -> None:
    """A child that knows its parent is no endless tree."""
    parent, child = nn.Linear(2, 2), nn.Module()
    parent.add_module("child", child)
    child.add_module("parent", parent)
    assert list(tensors_of_module(parent)) == ["bias", "weight"]


def test_in_place_changes_swaps_and_moves_are_noticed() -> None:
    """By a fingerprint that costs no pass over the bytes."""
    model = seeded(ResNet)
    seen = {weights_version(tensors_of_module(model))}
    with torch.no_grad():
        model.head.weight.add_(1)
    seen.add(weights_version(tensors_of_module(model)))
    model.head.weight.data = torch.zeros(10, 16)
    seen.add(weights_version(tensors_of_module(model)))
    model.head.weight = nn.Parameter(torch.ones(10, 16))
    seen.add(weights_version(tensors_of_module(model)))
    model.load_state_dict(model.state_dict())
    seen.add(weights_version(tensors_of_module(model)))
    assert len(seen) == 5
    assert weights_version(tensors_of_module(model)) in seen


def test_inference_tensors_have_a_fingerprint_too() -> None:
    """Though they keep no version counter."""
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    assert isinstance(weights_version(tensors_of_module(model)), int)


def test_only_unusual_layouts_are_listed() -> None:
    """Not C-contiguous, or not at a multiple of 64 bytes."""
    base = torch.zeros(64)
    tensors = {
        "plain": torch.zeros(4, 4),
        "transposed": torch.zeros(4, 8).t(),
        "shifted": base[1 : 1 + 4],
    }
    layouts = layouts_of(tensors)
    assert layouts.keys() == {"transposed", "shifted"}
    assert layouts["transposed"].strides == (1, 8)
    assert layouts["shifted"].alignment == tensors["shifted"].data_ptr() % 64 == (base.data_ptr() + 4) % 64


def test_training_modules_are_named_each() -> None:
    """The empty path is the module itself."""
    model = seeded(ResNet)
    assert training_modules_of(model) == ()
    model.first.train()
    assert training_modules_of(model) == ("first", "first.0", "first.1", "first.2")
    model.training = True
    assert training_modules_of(model)[0] == ""
