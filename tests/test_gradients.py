"""The gradients of `reference.backward` against central differences of `reference.loss_value`, in float64."""

from itertools import count, pairwise

import numpy as np
import pytest

from fastmnist import reference

STEP = 2e-5
# Relative to the largest entry; rounding grows as 1 / STEP, truncation as STEP², and here the worst is 3e-8.
TOLERANCE = 3e-7
WIDTHS = (5, 6, 4, 5)
N_OUTPUTS = 3
BATCH = 4
DROPOUT = 0.3

HIDDEN = ("linear", "relu", "sigmoid", "tanh")
OUTPUT_LOSSES = (
    ("linear", "squared_error"),
    ("relu", "squared_error"),
    ("sigmoid", "squared_error"),
    ("tanh", "squared_error"),
    ("softmax", "squared_error"),
    ("sigmoid", "cross_entropy"),
    ("softmax", "cross_entropy"),
)


class Network:
    """A random network, a batch for it, and what they all are in the words of `reference`."""

    def __init__(self, seed, activation, output, depth, biased, dropout):
        rng = np.random.default_rng(seed)
        widths = (*WIDTHS[:depth], N_OUTPUTS)
        shapes = list(pairwise(widths))
        self.images = rng.standard_normal((BATCH, widths[0]))
        self.targets = rng.dirichlet(np.ones(N_OUTPUTS), size=BATCH)  # in (0, 1), of sum 1
        self.weights = [rng.standard_normal((i, o)) / i**0.5 for i, o in shapes]
        self.biases = [rng.standard_normal(o) for _, o in shapes] if biased else None
        masks = [(rng.random((BATCH, o)) >= dropout).astype(np.uint8) for _, o in shapes[:-1]]
        self.functions = {"activation": activation, "output": output}
        self.drop = {"masks": masks, "dropout": dropout} if dropout else {}

    @property
    def parameters(self):
        return [*self.weights, *(self.biases or [])]

    def forward(self):
        return reference.forward(self.images, self.weights, self.biases, **self.functions, **self.drop)

    def backward(self, loss, **options):
        weight_gradients, bias_gradients = reference.backward(
            self.forward(), self.targets, self.weights, loss=loss, **self.functions, **self.drop, **options
        )
        return [*weight_gradients, *(bias_gradients if self.biases else [])]

    def near_a_kink(self):
        """Whether some ReLU's pre-activation is so small that a step might carry it across 0."""
        kinds = [self.functions["activation"]] * (len(self.weights) - 1) + [self.functions["output"]]
        biases = self.biases or [0] * len(self.weights)
        pre_activations = [v @ w + b for v, w, b in zip(self.forward()[:-1], self.weights, biases, strict=True)]
        return any(k == "relu" and np.abs(z).min() < 1e-3 for k, z in zip(kinds, pre_activations, strict=True))

    def mean_loss(self, loss):
        total = reference.loss_value(self.forward()[-1], self.targets, self.functions["output"], loss)
        # The scripts' delta of the squared error, which `backward` keeps, is half of its gradient.
        return total / BATCH / (2 if loss == "squared_error" else 1)

    def central_differences(self, loss):
        gradients = []
        for parameter in self.parameters:
            gradient = np.empty_like(parameter)
            for index in np.ndindex(parameter.shape):
                kept = parameter[index]
                parameter[index] = kept + STEP
                above = self.mean_loss(loss)
                parameter[index] = kept - STEP
                below = self.mean_loss(loss)
                parameter[index] = kept
                gradient[index] = (above - below) / (2 * STEP)
            gradients.append(gradient)
        return gradients


def smooth_network(*args):
    return next(net for net in (Network(seed, *args) for seed in count()) if not net.near_a_kink())


def assert_same(gradients, differences):
    assert len(gradients) == len(differences)
    for gradient, difference in zip(gradients, differences, strict=True):
        assert gradient.shape == difference.shape
        assert np.any(difference != 0), "an all-zero gradient would prove nothing"
        np.testing.assert_allclose(gradient, difference, rtol=0, atol=TOLERANCE * np.abs(difference).max())


@pytest.mark.parametrize(
    ("depth", "dropout"), [(1, 0), (2, 0), (3, 0), (4, 0), (2, DROPOUT), (3, DROPOUT), (4, DROPOUT)]
)
@pytest.mark.parametrize("biased", [False, True], ids=["unbiased", "biased"])
@pytest.mark.parametrize(("output", "loss"), OUTPUT_LOSSES)
@pytest.mark.parametrize("activation", HIDDEN)
def test_backward_is_the_gradient_of_the_loss(activation, output, loss, biased, depth, dropout):
    net = smooth_network(activation, output, depth, biased, dropout)
    assert_same(net.backward(loss), net.central_differences(loss))


@pytest.fixture
def relu_net():
    return smooth_network("relu", "softmax", 3, True, DROPOUT)


@pytest.mark.parametrize("which", range(6))
def test_a_gradient_wrong_in_one_entry_is_caught(relu_net, which):
    gradients = relu_net.backward("cross_entropy")
    differences = relu_net.central_differences("cross_entropy")
    assert_same(gradients, differences)
    gradients[which].flat[-1] += 1e-6 * np.abs(gradients[which]).max()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(gradients, differences)


def test_an_all_zero_gradient_is_caught(relu_net):
    zeros = [np.zeros_like(p) for p in relu_net.parameters]
    with pytest.raises(AssertionError, match="would prove nothing"):
        assert_same(zeros, zeros)


@pytest.mark.parametrize("options", [{"relu_gradient": "straight-through"}, {"dropout_gradient": "mask"}], ids=str)
def test_the_scripts_gradients_are_not_the_true_ones(relu_net, options):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(relu_net.backward("cross_entropy", **options), relu_net.central_differences("cross_entropy"))
