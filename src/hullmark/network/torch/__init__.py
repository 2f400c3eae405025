"""The torch front end: modules in memory to a `Network`, and the original through torch."""

from hullmark.network.torch.load import load_torch

__all__ = ["load_torch"]
