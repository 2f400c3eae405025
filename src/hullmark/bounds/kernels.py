"""The affine operations on torch: forward, transposed, and in absolute value.

A kernel acts on tensors `(N, *shape)`. `transpose` takes coefficients on the op's output to
coefficients on its inputs, which is one step of a backward linear bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hullmark.bounds.rounding import unit
from hullmark.network import ops
from hullmark.network.ops import Shape


class Kernel(Protocol):
    """An affine map `y = W x + b` of one or more inputs.

    `fan` bounds the terms of any dot product in `forward` or `transpose`; `relative` and
    `bias_error` say how far the stored coefficients may be from the true ones.
    """

    @property
    def fan(self) -> int: ...

    @property
    def relative(self) -> float: ...

    @property
    def bias(self) -> Tensor | None: ...

    @property
    def bias_error(self) -> Tensor | float: ...

    def forward(self, *x: Tensor) -> Tensor:
        """`W x`, without the bias."""
        ...

    def magnitude(self, *x: Tensor) -> Tensor:
        """`|W| x`, for `x >= 0`."""
        ...

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        """`a W`, one tensor per input."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class _Coefficients:
    fan: int = 1
    relative: float = 0.0
    bias: Tensor | None = None
    bias_error: Tensor | float = 0.0


@dataclass(frozen=True, eq=False)
class DenseKernel(_Coefficients):
    """`weight @ x` along the last axis; weight `(m, n)`."""

    weight: Tensor

    def forward(self, *x: Tensor) -> Tensor:
        return x[0] @ self.weight.T

    def magnitude(self, *x: Tensor) -> Tensor:
        return x[0] @ self.weight.abs().T

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a @ self.weight,)


@dataclass(frozen=True, eq=False)
class ConvKernel(_Coefficients):
    """Convolution or, `transposed`, its adjoint; `inner` is the padded or full size."""

    weight: Tensor
    stride: Shape
    dilation: Shape
    groups: int
    margins: tuple[int, ...]
    inner: Shape
    small: Shape
    transposed: bool

    def _shrink(self, x: Tensor, weight: Tensor) -> Tensor:
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(self.stride) - 1]
        return conv(
            F.pad(x, self.margins),
            weight,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )[(..., *(slice(n) for n in self.small))]

    def _grow(self, x: Tensor, weight: Tensor) -> Tensor:
        conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(self.stride) - 1]
        full = conv(x, weight, stride=self.stride, dilation=self.dilation, groups=self.groups)
        missing: list[int] = []
        for n, want in zip(reversed(full.shape[2:]), reversed(self.inner), strict=True):
            missing += [0, want - n]
        return F.pad(full, [m - p for m, p in zip(missing, self.margins, strict=True)])

    def forward(self, *x: Tensor) -> Tensor:
        return (self._grow if self.transposed else self._shrink)(x[0], self.weight)

    def magnitude(self, *x: Tensor) -> Tensor:
        return (self._grow if self.transposed else self._shrink)(x[0], self.weight.abs())

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return ((self._shrink if self.transposed else self._grow)(a, self.weight),)


@dataclass(frozen=True, eq=False)
class ScaleKernel(_Coefficients):
    """`factor * x`, element by element; factor has the shape of x."""

    factor: Tensor

    def forward(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor

    def magnitude(self, *x: Tensor) -> Tensor:
        return x[0] * self.factor.abs()

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a * self.factor,)


@dataclass(frozen=True, eq=False)
class SelectKernel(_Coefficients):
    """`y.flat[i] = x.flat[index[i]]`, or 0 where the index is the size of x.

    `inverse` is the inverse permutation where the index is one.
    """

    index: Tensor
    input_shape: Shape
    output_shape: Shape
    inverse: Tensor | None

    def forward(self, *x: Tensor) -> Tensor:
        flat = x[0].reshape(len(x[0]), -1)
        if self.inverse is None:
            flat = F.pad(flat, (0, 1))
        return flat[:, self.index].reshape(-1, *self.output_shape)

    def magnitude(self, *x: Tensor) -> Tensor:
        return self.forward(*x)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        flat = a.reshape(len(a), -1)
        if self.inverse is not None:
            return (flat[:, self.inverse].reshape(-1, *self.input_shape),)
        size = int(np.prod(self.input_shape))
        out = flat.new_zeros(len(a), size + 1).index_add_(1, self.index, flat)
        return (out[:, :size].reshape(-1, *self.input_shape),)


@dataclass(frozen=True, eq=False)
class ReshapeKernel(_Coefficients):
    """The same values in another shape."""

    input_shape: Shape
    output_shape: Shape

    def forward(self, *x: Tensor) -> Tensor:
        return x[0].reshape(-1, *self.output_shape)

    def magnitude(self, *x: Tensor) -> Tensor:
        return self.forward(*x)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a.reshape(-1, *self.input_shape),)


@dataclass(frozen=True, eq=False)
class ConcatKernel(_Coefficients):
    """Inputs joined along `axis`, where they have `sizes`."""

    axis: int
    sizes: tuple[int, ...]

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, dim=self.axis + 1)

    def magnitude(self, *x: Tensor) -> Tensor:
        return self.forward(*x)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.split(a, list(self.sizes), dim=self.axis + 1))


@dataclass(frozen=True, eq=False)
class AddKernel(_Coefficients):
    """The sum of the inputs, each times its sign."""

    signs: tuple[int, ...]

    def forward(self, *x: Tensor) -> Tensor:
        total = x[0] * self.signs[0]
        for sign, y in zip(self.signs[1:], x[1:], strict=True):
            total = total + y if sign > 0 else total - y
        return total

    def magnitude(self, *x: Tensor) -> Tensor:
        total = x[0]
        for y in x[1:]:
            total = total + y
        return total

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return tuple(a if sign > 0 else -a for sign in self.signs)


@dataclass(frozen=True, eq=False)
class SumKernel(_Coefficients):
    """The sum over `axes`, which stay as size 1."""

    axes: tuple[int, ...]
    input_shape: Shape

    def forward(self, *x: Tensor) -> Tensor:
        return x[0].sum(dim=[a + 1 for a in self.axes], keepdim=True)

    def magnitude(self, *x: Tensor) -> Tensor:
        return self.forward(*x)

    def transpose(self, a: Tensor) -> tuple[Tensor, ...]:
        return (a.expand(-1, *self.input_shape),)


def compile_affine(
    op: ops.Affine, inputs: Sequence[Shape], device: torch.device, dtype: torch.dtype
) -> Kernel:
    """The kernel of an affine operation whose inputs have the given shapes."""
    output = op.shape(*inputs)
    match op:
        case ops.Dense() | ops.Conv() | ops.ConvTranspose() | ops.Scale():
            return _compile_weighted(op, inputs[0], output, device, dtype)
        case ops.Select(index=index):
            flat = index.reshape(-1)
            size = int(np.prod(inputs[0]))
            counts = np.bincount(np.where(flat < 0, size, flat), minlength=size + 1)
            chosen = torch.as_tensor(np.where(flat < 0, size, flat), device=device)
            bijective = len(flat) == size and bool(np.all(counts[:size] == 1))
            return SelectKernel(
                fan=max(1, int(counts[:size].max(initial=0))),
                index=chosen,
                input_shape=inputs[0],
                output_shape=output,
                inverse=torch.as_tensor(np.argsort(flat), device=device) if bijective else None,
            )
        case ops.Reshape():
            return ReshapeKernel(input_shape=inputs[0], output_shape=output)
        case ops.Concat(axis=axis):
            return ConcatKernel(axis, tuple(s[axis] for s in inputs))
        case ops.Add(signs=signs):
            return AddKernel(signs, fan=len(signs))
        case ops.ReduceSum(axes=axes):
            terms = int(np.prod([inputs[0][a] for a in axes]))
            return SumKernel(axes, inputs[0], fan=terms)


def _compile_weighted(
    op: ops.Dense | ops.Conv | ops.ConvTranspose | ops.Scale,
    x: Shape,
    y: Shape,
    device: torch.device,
    dtype: torch.dtype,
) -> Kernel:
    def tensor(a: ops.Array) -> Tensor:
        return torch.from_numpy(np.array(a, dtype=np.float64)).to(device=device, dtype=dtype)

    def rounding(a: ops.Array) -> float:
        exact = np.array_equal(np.asarray(tensor(a).cpu().double()), np.asarray(a, np.float64))
        return 0.0 if exact else unit(dtype)

    raw = op.shift if isinstance(op, ops.Scale) else op.bias
    spread = raw if isinstance(op, ops.Scale | ops.Dense) else raw.reshape(-1, *[1] * (len(y) - 1))
    bias = tensor(np.broadcast_to(np.asarray(spread, np.float64), y))
    slack = np.asarray(op.roundoff.bias, np.float64)
    if slack.ndim and not isinstance(op, ops.Scale | ops.Dense):
        slack = slack.reshape(-1, *[1] * (len(y) - 1))
    errors = np.broadcast_to(slack, y)
    bias_error = tensor(errors) * 1.0001 + bias.abs() * rounding(raw)
    weights = op.factor if isinstance(op, ops.Scale) else op.weight
    relative = op.roundoff.relative * (1 + 2**-20) + rounding(weights)
    kept = bias if bool(bias.any()) else None
    match op:
        case ops.Dense(weight=w):
            return DenseKernel(
                tensor(w), fan=max(w.shape), relative=relative, bias=kept, bias_error=bias_error
            )
        case ops.Scale(factor=f):
            return ScaleKernel(
                tensor(np.broadcast_to(f, x)),
                relative=relative,
                bias=kept,
                bias_error=bias_error,
            )
        case _:
            transposed = isinstance(op, ops.ConvTranspose)
            big, small = (y, x) if transposed else (x, y)
            inner = tuple(n + sum(p) for n, p in zip(big[1:], op.padding, strict=True))
            taps = int(np.prod(op.weight.shape[2:]))
            channels = max(op.weight.shape[0] // op.groups, op.weight.shape[1])
            return ConvKernel(
                fan=taps * channels,
                relative=relative,
                bias=kept,
                bias_error=bias_error,
                weight=tensor(op.weight),
                stride=op.stride,
                dilation=op.dilation,
                groups=op.groups,
                margins=tuple(m for p in reversed(op.padding) for m in p),
                inner=inner,
                small=small[1:],
                transposed=transposed,
            )
