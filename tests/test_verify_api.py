"""The façade with a search that is not there: loading, checks, softmax, and what escapes."""

import importlib
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hullmark as hm
from hullmark.network.graph import Builder, Network
from hullmark.network.model import Model, check_parity
from hullmark.network.ops import Array, Dense, Op, Rectifier, Reshape, Softmax
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box
from hullmark.verdict import Monitor, Options, Progress, Proved, Stats, Unknown

ROOT = Path(__file__).resolve().parent.parent
BOX = Box([0, 0], [1, 1])
PROVED = Proved(1.0, 0.1, Stats("bounds"))
Decide = Callable[[Model, Property, Options, Monitor], object]


def chain(*operations: Op, inputs: int = 2) -> Network:
    builder = Builder((inputs,))
    node = 0
    for op in operations:
        node = builder.add(op, node)
    return builder.build(node)


DENSE = Dense(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.zeros(3))


@dataclass(frozen=True)
class Exact:
    """A runtime that agrees with the imported network."""

    network: Network

    def run(self, x: Array) -> Array:
        return self.network.evaluate(x).astype(x.dtype)


def model_of(*operations: Op) -> Model:
    network = chain(*operations)
    return Model(network, Exact(network), np.dtype(np.float32), "net")


def asks(*constraints: Constraint, box: Box = BOX, outputs: int = 3) -> Property:
    return Property(box.size, outputs, (Case(box, constraints, outputs),), "prop")


ORDER = Constraint.of({}, {0: 1, 1: -1}, 0)
LEVEL = Constraint.of({}, {0: 1}, 0.5)


@dataclass(frozen=True)
class Shaped:
    """A question that knows the shape of its inputs."""

    input_shape: tuple[int, ...]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[[Decide], None]:
    """Replace the search by a function."""

    def install(decide: Decide) -> None:
        fake = types.ModuleType("hullmark.search.strategy")
        fake.__dict__["decide"] = decide
        monkeypatch.setitem(sys.modules, "hullmark.search.strategy", fake)

    return install


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    weight = np.array([[1, 0], [0, 1], [1, -1]], dtype=np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.zeros(3, np.float32), "b"),
        ],
    )
    opsets = [helper.make_opsetid("", 13)]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


@pytest.fixture
def vnnlib_file(tmp_path: Path) -> Path:
    lines = [f"(declare-const X_{i} Real)" for i in range(2)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(3)]
    for i in range(2):
        lines += [f"(assert (>= X_{i} 0.0))", f"(assert (<= X_{i} 1.0))"]
    path = tmp_path / "prop.vnnlib"
    path.write_text("\n".join([*lines, "(assert (<= Y_2 -1.0))"]))
    return path


def test_files_become_a_model_and_a_property(
    search: Callable[[Decide], None], onnx_file: Path, vnnlib_file: Path
) -> None:
    seen: list[tuple[Model, Property, Options]] = []

    def decide(model: Model, prop: Property, options: Options, monitor: Monitor) -> object:
        seen.append((model, prop, options))
        return PROVED

    search(decide)
    verdict = hm.verify(str(onnx_file), vnnlib_file, timeout=30, seed=5, device="cpu")
    assert verdict is PROVED
    ((model, prop, options),) = seen
    assert (model.network.input_size, model.network.output_size) == (2, 3)
    assert len(prop.cases) == 1
    assert (options.timeout, options.seed) == (30, 5)
    # Loading counts: the clock the search reads was started before.
    assert options.started is not None
    assert options.deadline().elapsed() > 0


def test_bad_files_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys, hullmark as hm\n"
        "try:\n    hm.verify('missing.onnx', 'missing.vnnlib')\n"
        "except hm.BadInput as error:\n"
        "    sys.exit('torch' if 'torch' in sys.modules else 0)\n"
        "sys.exit('no error')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_question_is_asked_for_its_property(search: Callable[[Decide], None]) -> None:
    @dataclass(frozen=True)
    class Order:
        def property(self, input_size: int, output_size: int) -> Property:
            assert (input_size, output_size) == (2, 3)
            return asks(ORDER)

    search(lambda model, prop, options, monitor: PROVED)
    assert hm.verify(model_of(DENSE), Order()) is PROVED


def test_wrong_kinds_and_sizes_are_named() -> None:
    with pytest.raises(hm.BadInput, match="not a int"):
        hm.verify(3, asks(ORDER))  # type: ignore[arg-type]
    with pytest.raises(hm.BadInput, match="not a int"):
        hm.verify(model_of(DENSE), 3)  # type: ignore[arg-type]
    with pytest.raises(hm.BadInput, match="4 outputs"):
        hm.verify(model_of(DENSE), asks(ORDER, outputs=4))
    with pytest.raises(hm.BadInput, match="timeout"):
        hm.verify(model_of(DENSE), asks(ORDER), timeout=-1)


@pytest.mark.parametrize(
    ("question", "given", "expected"),
    [
        (asks(ORDER), None, (2,)),
        (BOX, None, (2,)),
        (hm.robust([0.5, 0.5], 1, 0.1), None, (2,)),
        (hm.robust(np.full((1, 2, 1), 0.5), 1, 0.1), None, (1, 2, 1)),
        (Box(np.zeros((2, 1)), np.ones((2, 1))), None, (2, 1)),
        (Box(np.zeros((2, 1)), [1, 1]), None, (2,)),
        (asks(ORDER), (1, 2), (1, 2)),
        (Shaped((2, 1)), None, (2, 1)),
    ],
)
def test_a_module_gets_its_shape(
    monkeypatch: pytest.MonkeyPatch, question: object, given: object, expected: object
) -> None:
    import torch

    seen: list[object] = []
    fake = types.ModuleType("hullmark.network.torch")
    fake.__dict__["load_torch"] = lambda module, shape: seen.append(shape)
    monkeypatch.setitem(sys.modules, "hullmark.network.torch", fake)
    hm.load(torch.nn.Linear(2, 3), question, given)  # type: ignore[arg-type]
    assert seen == [expected]


def test_a_module_of_unknown_or_wrong_shape_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def load_torch(module: object, shape: object) -> Model:
        raise hm.Unsupported("Conv2d: no vectors")

    fake = types.ModuleType("hullmark.network.torch")
    fake.__dict__["load_torch"] = load_torch
    monkeypatch.setitem(sys.modules, "hullmark.network.torch", fake)
    module = torch.nn.Linear(2, 3)
    with pytest.raises(hm.BadInput, match="input_shape"):
        hm.verify(module, "prop.vnnlib")
    with pytest.raises(hm.Unsupported, match=r"no vectors.*\(2,\).*input_shape"):
        hm.verify(module, asks(ORDER))


def test_parity_is_always_checked(search: Callable[[Decide], None]) -> None:
    search(lambda model, prop, options, monitor: PROVED)
    good = model_of(DENSE)
    other = chain(Dense(DENSE.weight, np.ones(3)))
    lying = replace(good, original=Exact(other))
    with pytest.raises(hm.ParityError, match="net"):
        hm.verify(lying, asks(ORDER))


def test_parity_looks_at_representable_inputs_only() -> None:
    # The bounds exceed the range of float32, in which they would turn into infinities.
    assert check_parity(model_of(DENSE), np.array([-1e39, 0]), np.array([1e39, 1])) < 1e-6


def test_every_box_up_to_a_few_is_checked_for_parity(
    search: Callable[[Decide], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    search(lambda model, prop, options, monitor: PROVED)
    module = importlib.import_module("hullmark.verify")
    seen: list[float] = []
    monkeypatch.setattr(
        module, "check_parity", lambda model, lower, upper, seed: seen.append(float(lower[0]))
    )
    boxes = [Box([i, 0], [i + 1, 1]) for i in range(1000)]
    few = Property(2, 3, tuple(Case(b, (ORDER,), 3) for b in boxes[:3]), "prop")
    hm.verify(model_of(DENSE), few)
    assert seen == [0, 1, 2]
    seen.clear()
    many = Property(2, 3, tuple(Case(b, (ORDER,), 3) for b in boxes), "prop")
    hm.verify(model_of(DENSE), many)
    assert 4 <= len(seen) <= 8
    assert seen[0] == 0
    assert seen[-1] > 800


def test_a_property_without_cases_is_proved_at_once(search: Callable[[Decide], None]) -> None:
    def decide(*arguments: object) -> object:
        raise AssertionError

    search(decide)
    verdict = hm.verify(model_of(DENSE), Property(2, 3, (), "prop"))
    assert isinstance(verdict, Proved)
    assert verdict.margin == np.inf


def test_a_final_softmax_is_dropped_where_only_the_order_matters(
    search: Callable[[Decide], None],
) -> None:
    seen: list[Model] = []

    def decide(model: Model, prop: Property, options: Options, monitor: Monitor) -> object:
        seen.append(model)
        return PROVED

    search(decide)
    model = model_of(DENSE, Softmax(0))
    hm.verify(model, asks(ORDER))
    (searched,) = seen
    x = np.array([[0.25, 0.75]])
    assert searched.network.evaluate(x).tolist() == [[0.25, 0.75, 1.0]]
    # Witnesses are still replayed with the softmax.
    assert searched.replay(x).sum() == pytest.approx(1)
    with pytest.raises(hm.Unsupported, match="softmax"):
        hm.verify(model, asks(LEVEL))


def test_a_softmax_over_parts_is_not_dropped(search: Callable[[Decide], None]) -> None:
    search(lambda model, prop, options, monitor: PROVED)
    six = Dense(np.ones((6, 2)), np.zeros(6))
    parts = model_of(six, Reshape((2, 3)), Softmax(1))
    with pytest.raises(hm.Unsupported, match="softmax"):
        hm.verify(parts, asks(ORDER, outputs=6))
    whole = model_of(six, Reshape((1, 6)), Softmax(1))
    assert hm.verify(whole, asks(ORDER, outputs=6)) is PROVED


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "memory"),
        (OutOfMemoryError("CUDA out of memory"), "memory"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            ),
            "memory",
        ),
    ],
)
def test_what_escapes_the_search_keeps_the_best_bound(
    search: Callable[[Decide], None], error: BaseException, reason: str
) -> None:
    def decide(model: Model, prop: Property, options: Options, monitor: Monitor) -> object:
        monitor.update(Progress("relu splitting", -0.5, 3, 9, 1.0, 0.1, None))
        raise error

    search(decide)
    verdict = hm.verify(model_of(DENSE), asks(ORDER))
    assert isinstance(verdict, Unknown)
    assert (verdict.reason, verdict.lower, verdict.open_domains) == (reason, -0.5, 3)


def test_other_errors_are_not_swallowed(search: Callable[[Decide], None]) -> None:
    def decide(*arguments: object) -> object:
        raise RuntimeError("shapes do not match")

    search(decide)
    with pytest.raises(RuntimeError, match="shapes"):
        hm.verify(model_of(DENSE), asks(ORDER))


def test_the_monitor_is_told(search: Callable[[Decide], None]) -> None:
    told: list[Progress] = []

    class Watcher:
        def update(self, progress: Progress) -> None:
            told.append(progress)

    def decide(model: Model, prop: Property, options: Options, monitor: Monitor) -> object:
        monitor.update(Progress("attack", -1.0, 1, 0, 0.0, 0.1, None))
        return PROVED

    search(decide)
    hm.verify_with(model_of(DENSE), asks(ORDER), Options(), Watcher())
    assert [p.phase for p in told] == ["attack"]


def test_bounds_of_outputs_over_a_box() -> None:
    report = hm.bound(model_of(DENSE), BOX, method="ibp")
    assert report.lower == pytest.approx([0, 0, 0])
    assert report.upper == pytest.approx([1, 1, 2])
    assert np.isnan(report.margin)
    assert report.margins.shape == (0,)
    assert report.method == "ibp"
    rows = hm.bound(model_of(DENSE), BOX, objective=np.array([1.0, -1.0, 0.0]))
    assert (rows.lower[0], rows.upper[0]) == pytest.approx((-1, 1))
    with pytest.raises(hm.BadInput, match="objective"):
        hm.bound(model_of(DENSE), BOX, objective=np.ones(4))
    with pytest.raises(hm.BadInput):
        hm.bound(model_of(DENSE), Box([0], [1]))


def test_bounds_of_a_property_keep_the_order_of_its_cases() -> None:
    other = Box([2, 2], [3, 3])
    cases = (
        Case(BOX, (LEVEL,), 3),
        Case(other, (LEVEL,), 3),
        Case(BOX, (Constraint.of({}, {2: -1}, -3),), 3),
    )
    report = hm.bound(model_of(DENSE), Property(2, 3, cases, "prop"))
    assert report.margins == pytest.approx([-0.5, 1.5, 1.0])
    assert report.margin == report.margins[0]
    assert report.lower == pytest.approx([0, 0, 0])
    assert report.upper == pytest.approx([3, 3, 6])


def test_info_counts_without_torch(onnx_file: Path) -> None:
    facts = hm.info(onnx_file)
    assert facts.opset == 13
    assert facts.dtype == "float32"
    assert facts.operations["Dense"] == 1
    assert facts.operations["Rectifier"] == 1
    assert facts.neurons == 3
    assert facts.parameters == 9
    script = (
        "import sys, hullmark as hm; hm.info(sys.argv[1]); "
        "sys.exit('torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(onnx_file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert hm.info(model_of(DENSE, Rectifier())).opset is None


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, hullmark; "
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there_and_stays_itself() -> None:
    for name in hm._HOME_OF:
        assert getattr(hm, name) is not None
        assert name in dir(hm)
    # The module of the same name must not take the function's place, in whatever order.
    script = (
        "import hullmark.verify, hullmark\n"
        "from hullmark.verify import info\n"
        "hullmark.verify.__call__, hullmark.bound.__call__"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="nonsense"):
        _ = hm.nonsense  # type: ignore[attr-defined]
