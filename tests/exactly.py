"""Networks over `Fraction`, the one thing that bounds can be checked against; random ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.network.model import Model
from hullmark.network.ops import Array
from hullmark.spec.property import Case

Rng = np.random.Generator


def fractions(values: Array) -> Array:
    """Every float as the rational number that it is."""
    exact = np.empty(np.shape(values), dtype=object)
    for place in np.ndindex(exact.shape):
        exact[place] = Fraction(float(values[place]))
    return exact


def exactly(network: Network) -> Network:
    """The same network with `Fraction` coefficients, so that it evaluates exactly."""
    return Network(tuple(replace(n, op=_exact(n.op)) for n in network.nodes))


def _exact(op: ops.Op) -> ops.Op:
    names = [name for name, value in vars(op).items() if isinstance(value, np.ndarray)]
    if isinstance(op, ops.Select) or not names:
        return op
    return replace(op, **{name: fractions(getattr(op, name)) for name in names})


def singly(network: Network) -> Network:
    """The same network with its coefficients rounded to float32."""

    def rounded(op: ops.Op) -> ops.Op:
        kept = {n: v for n, v in vars(op).items() if getattr(v, "dtype", None) == np.float64}
        singles = {n: v.astype(np.float32).astype(np.float64) for n, v in kept.items()}
        return replace(op, **singles) if singles else op

    return Network(tuple(replace(n, op=rounded(n.op)) for n in network.nodes))


def values_at(exact: Network, x: Array) -> Iterator[tuple[int, Array]]:
    """The exact value `(size,)` of every node but the input at the floats `x` `(n,)`."""
    for i, value in enumerate(exact.values(fractions(x).reshape(1, -1))):
        if i:
            yield i, value.reshape(-1)


def output_at(exact: Network, x: Array) -> Array:
    """The exact output `(k,)` at the floats `x` `(n,)`."""
    return exact.evaluate(fractions(x).reshape(1, -1)).reshape(-1)


def margin_at(case: Case, exact: Network, x: Array) -> Fraction:
    """The exact margin of a case: the largest of its rows."""
    point, y = fractions(x), output_at(exact, x)
    return max(
        sum((c * point[i] for i, c in row.x), Fraction(0))
        + sum((c * y[j] for j, c in row.y), Fraction(0))
        - row.bound
        for row in case.constraints
    )


@dataclass(frozen=True)
class Twin:
    """A runtime that is the imported network, in the precision of a type."""

    network: Network
    dtype: type[np.floating]

    def run(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.network.evaluate(x.astype(np.float64)).astype(self.dtype)


def model_of(network: Network, dtype: type[np.floating] = np.float64) -> Model:
    return Model(network, Twin(network, dtype), np.dtype(dtype), "net")


def mixed_network(rng: Rng, depth: int = 8, spread: float = 8.0) -> Network:
    """Every affine operation and a few rectifiers, with skips, and coefficients of very different
    sizes."""
    builder, pool = Builder((2, 3, 3)), [0]

    def some(*shape: int) -> NDArray[np.float64]:
        return rng.normal(size=shape) * 10.0 ** rng.uniform(-spread, spread, size=shape)

    for _ in range(depth):
        at = pool[-1] if rng.random() < 0.7 else pool[int(rng.integers(len(pool)))]
        shape = builder.shape(at)
        alike = [j for j in pool if builder.shape(j) == shape]
        other = alike[int(rng.integers(len(alike)))]
        flat = int(np.prod(shape))
        match int(rng.integers(9)):
            case 0 if len(shape) == 3:
                kernel = (2, shape[0], 2, 2)
                pads, step = ((1, 0), (0, 1)), (1, int(rng.integers(1, 3)))
                at = builder.add(ops.Conv(some(*kernel), some(2), step, pads, (1, 1)), at)
            case 1 if len(shape) == 3:
                weight = some(shape[0], 1, 2, 2)
                op = ops.ConvTranspose(weight, some(1), (1, 1), ((0, 1), (1, 0)), (1, 1), (0, 0))
                at = builder.add(op, at)
            case 2:
                at = builder.add(ops.Scale(some(*shape), some(*shape)), at)
            case 3:
                at = builder.add(ops.Add((1, -1, 1)), at, other, at)
            case 4:
                at = builder.add(ops.Select(rng.integers(-1, flat, size=9)), at)
            case 5 if flat < 40:
                at = builder.add(ops.ReduceSum((0,)), builder.add(ops.Concat(0), at, other))
            case 6 | 7:
                slopes = rng.normal(size=(2, *shape))
                at = builder.add(ops.Rectifier(slopes[0], slopes[1]), at)
            case _:
                at = builder.add(ops.Reshape((flat,)), at)
                at = builder.add(ops.Dense(some(4, flat), some(4)), at)
        pool.append(at)
    at = builder.add(ops.Reshape((int(np.prod(builder.shape(pool[-1]))),)), pool[-1])
    return builder.build(builder.add(ops.Dense(some(2, builder.shape(at)[0]), some(2)), at))


RECTIFIERS = (
    ops.Rectifier(),
    ops.Rectifier(),
    ops.Rectifier(np.array(-1.0)),
    ops.Rectifier(np.array(0.1)),
    ops.Rectifier(np.array(1.5)),
    ops.Rectifier(np.array(1.0), np.array(0.0)),
)


def rectified_network(rng: Rng, inputs: int, outputs: int = 2) -> Network:
    """Rectifiers of every kind, convex and concave, with skips and shared pre-activations."""
    builder, at, skip = Builder((inputs,)), 0, 0
    for layer in range(3):
        op = RECTIFIERS[int(rng.integers(len(RECTIFIERS)))]
        if layer or rng.random() < 0.7:
            width = builder.shape(at)[0]
            weight = rng.normal(size=(4, width)) / np.sqrt(width)
            at = builder.add(ops.Dense(weight, rng.normal(size=4) * 0.3), at)
        match int(rng.integers(4)):
            case 0:
                both = builder.add(op, at), builder.add(ops.Rectifier(np.array(-0.5)), at)
                at = builder.add(ops.Concat(0), *both)
            case 1:
                slopes = rng.normal(size=(2, *builder.shape(at)))
                at = builder.add(ops.Rectifier(slopes[0], slopes[1]), at)
            case _:
                at = builder.add(op, at)
        if builder.shape(at) == builder.shape(skip):
            at = builder.add(ops.Add((1, -1)), at, skip)
        skip = at
    width = builder.shape(at)[0]
    last = ops.Dense(rng.normal(size=(outputs, width)), rng.normal(size=outputs) * 0.1)
    return builder.build(builder.add(last, at))
