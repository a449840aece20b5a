"""PyTorch, eager: autograd where a user would take it, gradients by hand where the scripts need them."""

from collections.abc import Callable

import numpy as np
import torch

from fastmnist import engine
from fastmnist.bench.rows import Array, Dataset, Side, Work, evaluation
from fastmnist.bench.setting import Course, Recipe


def eager(work: Work) -> Side:
    """Train a `Sequential` with `SGD`, or the scripts' networks with in-place updates, which is faster here."""
    torch.set_num_threads(work.threads)
    if work.row.evaluates:
        return _evaluation(work)
    return _autograd(work) if work.row.has_biases else _by_hand(work)


def _sequential(weights: list[Array], biases: list[Array], dropout: float = 0.0) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for w, b in zip(weights, biases, strict=True):
        linear = torch.nn.Linear(*w.shape, dtype=getattr(torch, str(w.dtype)))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w).T)
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.ReLU(), *([torch.nn.Dropout(dropout)] if dropout else [])]
    return torch.nn.Sequential(*layers[: -2 if dropout else -1])


def _evaluation(work: Work) -> Side:
    images = torch.from_numpy(work.floats())
    if work.row.has_biases:
        model = _sequential(*work.parameters()).append(torch.nn.Softmax(dim=1))
    else:
        w0, w1 = (torch.from_numpy(w) for w in work.weights)

    def outputs() -> Array:
        with torch.inference_mode():
            if work.row.has_biases:
                return np.asarray(model(images).numpy())
            return np.asarray((torch.relu(images @ w0) @ w1).numpy())

    return evaluation(work, outputs)


def _autograd(work: Work) -> Side:
    images, labels = torch.from_numpy(work.floats()), torch.from_numpy(work.labels.astype(np.int64))
    model, size = _sequential(*work.parameters()), work.row.batch_size
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=work.row.learning_rate)

    def run() -> None:
        for start in range(0, len(images), size):
            optimizer.zero_grad()
            loss(model(images[start : start + size]), labels[start : start + size]).backward()
            optimizer.step()

    def result() -> list[Array]:
        parameters = [p.detach().numpy() for p in model.parameters()]
        return [*(w.T for w in parameters[::2]), *parameters[1::2]]

    return Side(run, result)


def _by_hand(work: Work) -> Side:
    row = work.row
    images, targets = torch.from_numpy(work.floats()), torch.from_numpy(work.targets())
    w0, w1 = (torch.from_numpy(w) for w in work.parameters()[0])
    size, repeats, rate = row.batch_size, row.updates_per_batch, row.learning_rate

    @torch.inference_mode()
    def run() -> None:
        drawn = work.draw_masks()
        masks = None if drawn is None else torch.from_numpy(drawn)
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            x = images[rows]
            h = torch.relu(x @ w0)
            if masks is not None:
                h *= masks[rows] * 2
            delta = (h @ w1 - targets[rows]) / size
            upper = w1 if repeats == 1 else torch.addmm(w1, h.T, delta, alpha=-rate * (repeats - 1) / 2)
            back = delta @ upper.T
            if masks is not None:
                back *= masks[rows]
            w1.addmm_(h.T, delta, alpha=-repeats * rate)
            w0.addmm_(x.T, back, alpha=-repeats * rate)

    return Side(run, lambda: [w0.numpy(), w1.numpy()])


def follow(recipe: Recipe, dataset: Dataset, threads: int) -> Callable[[int], Course]:
    """Prepare the images; return what starts a training for a seed."""
    torch.set_num_threads(threads)
    (images, labels), (test_images, test_labels) = (
        (torch.from_numpy(x.reshape(len(x), -1) / np.float32(255)), torch.from_numpy(y.astype(np.int64)))
        for x, y in dataset
    )

    def start(seed: int) -> Course:
        ours = engine.Network(recipe.sizes, seed=seed)
        model = _sequential(ours.weights, ours.biases, recipe.dropout)
        loss = torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), eps=1e-7, fused=True)
        random = torch.Generator().manual_seed(seed)

        def train(rates: Array) -> None:
            model.train()
            order = torch.randperm(len(images), generator=random)
            for rate, rows in zip(rates.tolist(), order.split(recipe.batch_size), strict=True):
                optimizer.param_groups[0]["lr"] = rate
                optimizer.zero_grad()
                loss(model(images[rows]), labels[rows]).backward()
                optimizer.step()

        def accuracy() -> float:
            model.eval()
            with torch.inference_mode():
                right = model(test_images).argmax(dim=1) == test_labels
            return float(right.float().mean())

        return Course(train, accuracy)

    return start
