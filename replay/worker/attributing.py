"""The worker's side of attributions: which pixels the answer moves with, by Captum. Imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from replay.graph.run import LoadedGraph
from replay.worker.loading import Loaded

__all__ = ["NoAttribution", "attributed"]

#: Steps of the integral; Captum's default of 50 moves the map by less than a per cent on ImageNet networks.
_STEPS = 32


class NoAttribution(Exception):
    """There is nothing to attribute; the message is half a sentence with the remedy."""


def attributed(model: Loaded, place: dict[str, Any], args: Any, kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Attribute one class of one item to the pixels of one argument.

    Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) against a black picture, Grad-CAM at the last
    convolution (Selvaraju et al. 2017, arXiv:1610.02391) where the model is a module, the gradient alone, and two of
    them again with the weights shuffled (Adebayo et al. 2018, arXiv:1810.03292): a map that stays says nothing of what
    was learnt.

    Args:
        model: loaded.
        place: "argument" (position of the picture), "row" (the item), "target" (the class), "channels" (the axis).
        args, kwargs: of the recorded call.

    Returns:
        Maps of the picture's height and width, float32: "integrated-gradients", "gradient", both of them with
        ", shuffled" behind their names, and perhaps "grad-cam".

    Raises:
        NoAttribution: Captum is missing, or the answer has no such class.
    """
    try:
        attr = importlib.import_module("captum.attr")
    except ImportError as error:
        raise NoAttribution("Captum is not installed: pip install 'vision-flight-recorder[attribution]'") from error
    position, row, target = place["argument"], place["row"], place["target"]
    picture = args[position].detach().clone().float()
    rest = list(args)

    def forward(pictures: torch.Tensor) -> torch.Tensor:
        """Scores of the item's classes, (1, classes); everything else of the batch stays as it was."""
        whole = picture.clone()
        whole[row] = pictures[0]
        rest[position] = whole.to(args[position].dtype)
        scores = _scores(model.call(*rest, **kwargs))
        if scores.ndim != 2 or not (row < scores.shape[0] and target < scores.shape[1]):
            raise NoAttribution("the answer holds no row of classes")
        return scores[row : row + 1].float()

    chosen = picture[row : row + 1].requires_grad_()  # Captum would do it, and warn of it
    gradients = attr.IntegratedGradients(forward)

    def integrated() -> torch.Tensor:
        found = gradients.attribute(chosen, baselines=0.0, target=target, n_steps=_STEPS, internal_batch_size=1)
        summed: torch.Tensor = found[0].abs().sum(dim=place["channels"])
        return summed

    def gradient() -> torch.Tensor:
        found: torch.Tensor = attr.Saliency(forward).attribute(chosen, target=target)[0].amax(dim=place["channels"])
        return found

    maps = {"integrated-gradients": integrated(), "gradient": gradient()}
    layer = _last_convolution(model, lambda: forward(chosen))
    if layer is not None:
        cam = attr.LayerGradCam(forward, layer).attribute(chosen, target=target, relu_attributions=True)
        cam = torch.nn.functional.interpolate(
            cam[min(row, len(cam) - 1)][None], size=maps["integrated-gradients"].shape, mode="bilinear"
        )
        maps["grad-cam"] = cam[0, 0]
    with _shuffled(model):
        maps |= {"integrated-gradients, shuffled": integrated(), "gradient, shuffled": gradient()}
    return {name: each.detach().float().contiguous() for name, each in maps.items()}


def _scores(output: Any) -> torch.Tensor:
    """The first floating-point tensor of an answer."""
    for each in _tensors(output):
        if each.is_floating_point():
            return each
    raise NoAttribution("the answer holds no scores")


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, dict):
        for each in output.values():
            yield from _tensors(each)
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _tensors(each)


def _last_convolution(model: Loaded, run: Callable[[], object]) -> torch.nn.Module | None:
    """The convolution that runs last and still has places; None where the model is no module."""
    if model.module is None:
        return None
    order: list[torch.nn.Module] = []
    hooks = [
        each.register_forward_hook(
            lambda module, _, output: order.append(module) if output.ndim == 4 and min(output.shape[2:]) > 1 else None
        )
        for each in model.module.modules()
        if isinstance(each, torch.nn.Conv2d)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return order[-1] if order else None


@contextmanager
def _shuffled(model: Loaded) -> Iterator[None]:
    """The model with the elements of every weight in another order, and as it was afterwards."""
    weights: dict[str, torch.Tensor] = {}
    if isinstance(model.call, LoadedGraph):
        weights = model.call.state
    elif model.module is not None:
        weights = dict(model.module.named_parameters())
    wide = {name: each for name, each in weights.items() if each.is_floating_point() and each.ndim > 1}
    if not wide:
        raise NoAttribution("the model has no weights that could be shuffled")
    generator = torch.Generator().manual_seed(0)
    kept = {name: each.detach().clone() for name, each in wide.items()}
    with torch.no_grad():
        for each in wide.values():
            order = torch.randperm(each.numel(), generator=generator).to(each.device)
            each.copy_(each.flatten()[order].reshape(each.shape))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, each in wide.items():
                each.copy_(kept[name])
