"""Train the three demonstration networks and write them as ONNX files.

The files beside this script were made by it and are part of the repository, so `make demo`
needs neither this script nor scikit-learn. To train again, install the package with its extra
`demo` and run `python demo/train.py`. Training is seeded and runs on one thread; another version
of torch or another processor may still give other weights, and then the radii in
`demo/questions.py` have to be chosen anew.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
TRAINING_IMAGES = 1400
EPOCHS = 60
OPSET = 13


class Block(nn.Module):
    """`relu(x + second(relu(first(x))))` with two 3 by 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The block's value; `x` and the result `(batch, channels, height, width)`."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def architectures() -> dict[str, nn.Sequential]:
    """The three networks, untrained; each takes `(batch, 1, 8, 8)` and gives `(batch, 10)`."""
    return {
        "digits_fc": nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        ),
        "digits_conv": nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(192, 10),
        ),
        "digits_res": nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            Block(8),
            Block(8),
            nn.Flatten(),
            nn.Linear(128, 10),
        ),
    }


def digits() -> tuple[Tensor, Tensor]:
    """All 1797 handwritten digits, pixels in `[0, 1]`, `(1797, 1, 8, 8)`, and their labels.

    They are shuffled, since scikit-learn lists them by writer.
    """
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    pixels = (np.asarray(images) / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return torch.from_numpy(pixels), torch.from_numpy(np.asarray(labels, dtype=np.int64))


def train(network: nn.Sequential, images: Tensor, labels: Tensor) -> None:
    """Fit in place by AdamW on slightly noisy images, with a step size that falls to zero."""
    batch = 50
    steps = EPOCHS * (len(images) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for chosen in order.split(batch):
            noisy = (images[chosen] + 0.08 * torch.randn(len(chosen), 1, 8, 8)).clamp(0, 1)
            loss = nn.functional.cross_entropy(network(noisy), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


class Exporter:
    """Collects ONNX nodes and initializers while it walks through a torch network."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def emit(self, kind: str, inputs: list[str], parameters: nn.Module | None = None) -> str:
        """Append a node that also reads the module's weight and bias; the name of its value."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        attributes: dict[str, int | list[int]] = {}
        if isinstance(parameters, nn.Linear):
            attributes = {"transB": 1}
        elif isinstance(parameters, nn.Conv2d):
            (stride, _), pad = parameters.stride, int(parameters.padding[0])
            attributes = {"strides": [stride, stride], "pads": [pad] * 4, "kernel_shape": [3, 3]}
        if parameters is not None:
            for part, value in parameters.named_parameters():
                name = f"{output}.{part}"
                self.weights.append(numpy_helper.from_array(value.detach().numpy(), name))
                inputs = [*inputs, name]
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def walk(self, layer: nn.Module, value: str) -> str:
        """Append one layer that reads `value`; the name of the layer's value."""
        match layer:
            case nn.Flatten():
                return self.emit("Flatten", [value])
            case nn.ReLU():
                return self.emit("Relu", [value])
            case nn.Linear():
                return self.emit("Gemm", [value], layer)
            case nn.Conv2d():
                return self.emit("Conv", [value], layer)
            case Block():
                inner = self.emit("Conv", [value], layer.first)
                inner = self.emit("Conv", [self.emit("Relu", [inner])], layer.second)
                return self.emit("Relu", [self.emit("Add", [value, inner])])
            case _:
                raise TypeError(f"no export for a layer of type {type(layer).__name__}")


def export(network: nn.Sequential, name: str) -> onnx.ModelProto:
    """The network as an ONNX model, with a batch axis of any size."""
    exporter = Exporter()
    value = "image"
    for layer in network:
        value = exporter.walk(layer, value)
    exporter.nodes[-1].output[0] = "scores"
    graph = helper.make_graph(
        exporter.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        exporter.weights,
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, producer_name="hullmark", opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, export, compare with onnxruntime on the test images, and write the files."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = digits()
    held_out = images[TRAINING_IMAGES:].numpy()
    for name, network in architectures().items():
        torch.manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()
        train(network, images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES])
        written = export(network, name).SerializeToString()
        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
        scores = np.asarray(session.run(["scores"], {"image": held_out})[0])
        with torch.no_grad():
            difference = float(np.abs(scores - network(images[TRAINING_IMAGES:]).numpy()).max())
        if difference > 1e-4:
            raise RuntimeError(f"{name}: onnxruntime and torch differ by {difference}")
        accuracy = float((scores.argmax(axis=1) == labels[TRAINING_IMAGES:].numpy()).mean())
        (HERE / f"{name}.onnx").write_bytes(written)
        print(
            f"{name}: {len(written)} bytes, test accuracy {accuracy:.3f}, parity {difference:.1e}"
        )


if __name__ == "__main__":
    main()
