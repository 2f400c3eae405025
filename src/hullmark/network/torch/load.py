"""From a `torch.nn.Module` to a `Model`: tracing, the walk over the trace, and the original."""

import builtins
import operator
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.nn import functional

from hullmark.errors import BadInput, HullmarkError, Unsupported
from hullmark.network.lower import Lowering, Value
from hullmark.network.model import Model
from hullmark.network.ops import Array, Shape, Softmax
from hullmark.network.simplify import simplify
from hullmark.network.torch.context import Context
from hullmark.network.torch.functions import FUNCTIONS
from hullmark.network.torch.modules import MODULES

MALFORMED = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)
HOMES = (torch, functional, operator, builtins)
TYPES = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


def load_torch(module: nn.Module, input_shape: Shape, *, simplified: bool = True) -> Model:
    """Import a module in memory, as it acts in evaluation mode on one sample.

    The module is traced symbolically; its training flags are put back afterwards, and nothing
    else in it changes. Weights are read now: later changes are not seen by the network, but by
    the original.

    Arguments:
        module: fully connected, convolutional or residual, of float32 or float64 weights.
        input_shape: of one sample, without the batch axis.
        simplified: as for `load_onnx`.

    Raises:
        Unsupported: if the module cannot be traced or uses something that is not handled; names
            the submodule or function.

    Trust: over the reals the result is the network of the module's weights, up to each op's
    `roundoff`; plain Python numbers count in the precision of the weights. `check_parity`
    compares it with the original.
    """
    source = type(module).__name__
    if not input_shape or min(input_shape) < 1:
        raise BadInput(f"{source}: an input of shape {tuple(input_shape)}")
    kind, device = _kind(module, source)
    tracer = fx.Tracer()
    # A module of torch itself is kept whole only inside another one.
    root = nn.Sequential(module) if tracer.is_leaf_module(module, "") else module
    with _evaluating(module):
        try:
            graph = tracer.trace(root)
        except Exception as error:  # whatever the module's own code raises on a proxy
            line = " ".join(str(error).split())
            raise Unsupported(f"{source}: cannot be traced: {line}") from error
    low = Lowering((1, *input_shape), "input")
    walk = _Walk(root, Context(low, TYPES[kind]), source)
    with np.errstate(all="ignore"):
        network = low.build(walk.run(graph))
        network = simplify(network) if simplified else network
    for node in network.nodes[:-1]:
        if isinstance(node.op, Softmax):
            raise Unsupported(f"{source}: {node.name}: a softmax before the last operation")
    return Model(network, _TorchRunner(module, kind, device), TYPES[kind], source)


class _TorchRunner:
    """The module itself, in evaluation mode and without gradients."""

    def __init__(self, module: nn.Module, kind: torch.dtype, device: torch.device) -> None:
        self._module, self._kind, self._device = module, kind, device

    def run(self, x: Array) -> Array:
        with _evaluating(self._module), torch.no_grad():
            batch = torch.from_numpy(np.array(x)).to(self._device, self._kind)
            return self._module(batch).detach().cpu().numpy()


class _Walk:
    """Evaluates a trace with `Value`s in place of tensors."""

    def __init__(self, root: nn.Module, context: Context, source: str) -> None:
        self._root, self._context, self._source = root, context, source
        self._known: dict[fx.Node, Any] = {}
        self._same: dict[fx.Node, list[fx.Node]] = {}

    def run(self, graph: fx.Graph) -> Value:
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        needed = [node for node in inputs if not node.args]
        if len(needed) != 1:
            raise Unsupported(f"{self._source}: {len(needed)} inputs, not one")
        result: Any = None
        for node in graph.nodes:
            where = f"{self._source}: {node.name} ({node.target})"
            self._context.low.source(node.name)
            try:
                result = self._known[node] = self._value(node)
            except HullmarkError as error:
                raise type(error)(f"{where}: {error}") from None
            except MALFORMED as error:
                raise Unsupported(f"{where}: these arguments are not handled: {error}") from error
        if not isinstance(result, Value):
            raise Unsupported(f"{self._source}: yields {type(result).__name__}, not one tensor")
        return result

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return node.args[0] if node.args else self._context.low.input
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self._root)
        arguments: Any = map_arg(node.args, lambda n: self._known[n])
        named: Any = map_arg(node.kwargs, lambda n: self._known[n])
        if node.op == "output":
            return arguments[0]
        if node.op == "call_module":
            module = self._root.get_submodule(str(node.target))
            if type(module) not in MODULES:
                raise Unsupported(f"modules of class {type(module).__name__} are not handled")
            name, settings = MODULES[type(module)]
            inputs = (*arguments, *named.values())
            result = FUNCTIONS[name](self._context, *inputs, *settings(module))
            in_place = bool(getattr(module, "inplace", False))
        elif not _has_value((arguments, named)):
            return _plain(node, arguments, named)
        else:
            name = node.target if isinstance(node.target, str) else _name(node.target)
            result = _handler(name)(self._context, *arguments, **named)
            in_place = _writes(name) or bool(named.get("inplace"))
        self._alias(node, result, in_place)
        return result

    def _alias(self, node: fx.Node, result: Any, in_place: bool) -> None:
        """Let later readers of the tensor that `node` wrote into see what was written."""
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node) or not (in_place or result is self._known[first]):
            return
        group = self._same.setdefault(first, [first])
        group.append(node)
        self._same[node] = group
        for other in group:
            self._known[other] = result


def _handler(name: str) -> Callable[..., Any]:
    bare = name.strip("_") if _writes(name) else name
    bare = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv"}.get(bare, bare)
    if bare not in FUNCTIONS:
        raise Unsupported(f"{name} is not handled")
    return FUNCTIONS[bare]


def _writes(name: str) -> bool:
    return name.endswith("_") or name in ("iadd", "isub", "imul", "itruediv")


def _name(target: Callable[..., Any]) -> str:
    """The name of a function of torch or of Python itself; others may be anything."""
    name = getattr(target, "__name__", "")
    if not any(getattr(home, name, None) is target for home in HOMES):
        raise Unsupported(f"{name or target} is no function of torch")
    return name


def _plain(node: fx.Node, arguments: Any, named: Any) -> Any:
    """A computation on sizes and weights alone, which Python can do."""
    if isinstance(node.target, str):
        return getattr(arguments[0], node.target)(*arguments[1:], **named)
    return node.target(*arguments, **named)


def _has_value(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(_has_value(v) for v in tree.values())
    if isinstance(tree, tuple | list):
        return any(_has_value(v) for v in tree)
    return isinstance(tree, Value)


def _kind(module: nn.Module, source: str) -> tuple[torch.dtype, torch.device]:
    tensors = [*module.parameters(), *module.buffers()]
    floating = [t for t in tensors if t.is_floating_point()]
    kinds = {t.dtype for t in floating} or {torch.get_default_dtype()}
    if len(kinds) > 1 or not kinds <= TYPES.keys():
        names = ", ".join(sorted(str(k) for k in kinds))
        raise Unsupported(f"{source}: weights of type {names}, not float32 or float64")
    devices = {t.device for t in floating} or {torch.device("cpu")}
    if len(devices) > 1:
        raise Unsupported(f"{source}: weights on {len(devices)} devices")
    return kinds.pop(), devices.pop()


@contextmanager
def _evaluating(module: nn.Module) -> Generator[None]:
    """Evaluation mode for a while; every submodule gets its own flag back."""
    flags = [(m, m.training) for m in module.modules()]
    try:
        for m, _ in flags:
            m.training = False
        yield
    finally:
        for m, flag in flags:
            m.training = flag
