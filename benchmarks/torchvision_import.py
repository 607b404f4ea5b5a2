"""How torchvision is imported where it was installed without its compiled operators."""

import importlib
import warnings

libraries: list[object] = []  # a torch.library lives as long as its object


def import_torchvision():
    """torchvision; its models and transforms need no more of its operators than their schemas."""
    import torch

    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        libraries.append(library)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torchvision")
