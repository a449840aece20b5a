"""Programs in the style of NumPy-from-scratch scripts: some that are replaced, and some that only look like it."""

DATA = """\
import sys, numpy as np
np.random.seed(3)
images = np.random.random((60, 20)) * (np.random.random((60, 20)) < 0.4)
labels = np.eye(4)[np.random.randint(4, size=60)]
test_images = np.random.random((30, 20)) * (np.random.random((30, 20)) < 0.4)
test_labels = np.eye(4)[np.random.randint(4, size=30)]
alpha, iterations, hidden = (0.05, 3, 7)
weights_0_1 = 0.2 * np.random.random((20, hidden)) - 0.1
weights_1_2 = 0.2 * np.random.random((hidden, 4)) - 0.1
"""

PER_SAMPLE = (
    DATA
    + """\
relu = lambda x: (x > 0) * x
relu2deriv = lambda x: x >= 0
for j in range(iterations):
    error, correct_cnt = (0.0, 0)
    for i in range(len(images)):
        layer_0 = images[i:i+1]
        layer_1 = relu(np.dot(layer_0, weights_0_1))
        layer_2 = np.dot(layer_1, weights_1_2)
        error += np.sum((layer_2 - labels[i:i+1]) ** 2)
        correct_cnt += int(np.argmax(layer_2) == np.argmax(labels[i:i+1]))
        layer_2_delta = layer_2 - labels[i:i+1]
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * relu2deriv(layer_1)
        weights_1_2 -= alpha * layer_1.T.dot(layer_2_delta)
        weights_0_1 -= alpha * layer_0.T.dot(layer_1_delta)
    test_error = 0.0
    test_correct_cnt = 0
    for i in range(len(test_images)):
        layer_0 = test_images[i:i+1]
        layer_1 = relu(np.dot(layer_0, weights_0_1))
        layer_2 = np.dot(layer_1, weights_1_2)
        test_error += np.sum((test_labels[i:i+1] - layer_2) ** 2)
        test_correct_cnt += int(np.argmax(layer_2) == np.argmax(test_labels[i:i+1]))
    print(j, error / len(images), correct_cnt, test_error, test_correct_cnt)
"""
)

DROPOUT = PER_SAMPLE.replace(
    "        layer_2 = np.dot(layer_1, weights_1_2)\n        error",
    "        dropout_mask = np.random.randint(2, size=layer_1.shape)\n"
    "        layer_1 *= dropout_mask * 2\n"
    "        layer_2 = np.dot(layer_1, weights_1_2)\n        error",
).replace("        weights_1_2 -=", "        layer_1_delta *= dropout_mask\n        weights_1_2 -=")

MINI_BATCH = DROPOUT.replace(
    "alpha, iterations, hidden = (0.05, 3, 7)", "alpha, iterations, hidden, batch_size = (0.01, 3, 7, 5)"
)
MINI_BATCH = MINI_BATCH.replace(
    "    for i in range(len(images)):\n        layer_0 = images[i:i+1]",
    "    for i in range(int(len(images) / batch_size)):\n"
    "        batch_start, batch_end = ((i * batch_size), ((i + 1) * batch_size))\n"
    "        layer_0 = images[batch_start:batch_end]",
    1,
)
_before, _body = MINI_BATCH.split("        correct_cnt += int(", 1)
_body, _after = _body.split("    test_error = 0.0", 1)
_body = ("        correct_cnt += int(" + _body).replace("labels[i:i+1]", "labels[batch_start:batch_end]")
REPEATED = (
    _before.replace("labels[i:i+1]", "labels[batch_start:batch_end]")
    + "        for k in range(batch_size):\n"
    + "".join(f"    {line}\n" for line in _body.splitlines())
    .replace("np.argmax(layer_2)", "np.argmax(layer_2[k:k+1])")
    .replace("np.argmax(labels[batch_start:batch_end])", "np.argmax(labels[batch_start+k:batch_start+k+1])")
    .replace("layer_2 - labels[batch_start:batch_end]", "(layer_2 - labels[batch_start:batch_end]) / batch_size")
    + "    test_error = 0.0"
    + _after
)
MINI_BATCH = (
    _before.replace("labels[i:i+1]", "labels[batch_start:batch_end]") + "        for k in range(batch_size):\n"
    "            correct_cnt += int(np.argmax(layer_2[k:k+1]) == np.argmax(labels[batch_start+k:batch_start+k+1]))\n"
    + "\n".join(
        _body.replace(
            "layer_2 - labels[batch_start:batch_end]", "(layer_2 - labels[batch_start:batch_end]) / batch_size"
        ).splitlines()[1:]
    )
    + "\n    test_error = 0.0"
    + _after
)

TANH = (
    DATA
    + """\
batch_size = 6
def tanh(x):
    return np.tanh(x)
def tanh2deriv(output):
    return 1 - (output ** 2)
def softmax(x):
    temp = np.exp(x)
    return temp / np.sum(temp, axis=1, keepdims=True)
for j in range(iterations):
    correct_cnt = 0
    for i in range(int(len(images) / batch_size)):
        batch_start, batch_end = ((i * batch_size), ((i + 1) * batch_size))
        layer_0 = images[batch_start:batch_end]
        layer_1 = tanh(np.dot(layer_0, weights_0_1))
        dropout_mask = np.random.randint(2, size=layer_1.shape)
        layer_1 *= dropout_mask * 2
        layer_2 = softmax(np.dot(layer_1, weights_1_2))
        for k in range(batch_size):
            correct_cnt += int(np.argmax(layer_2[k:k+1]) == np.argmax(labels[batch_start+k:batch_start+k+1]))
        layer_2_delta = (labels[batch_start:batch_end] - layer_2) / (batch_size * layer_2.shape[0])
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * tanh2deriv(layer_1)
        layer_1_delta *= dropout_mask
        weights_1_2 += alpha * layer_1.T.dot(layer_2_delta)
        weights_0_1 += alpha * layer_0.T.dot(layer_1_delta)
    test_correct_cnt = 0
    for i in range(len(test_images)):
        layer_0 = test_images[i:i+1]
        layer_1 = tanh(np.dot(layer_0, weights_0_1))
        layer_2 = np.dot(layer_1, weights_1_2)
        test_correct_cnt += int(np.argmax(layer_2) == np.argmax(test_labels[i:i+1]))
    if j % 2 == 0:
        sys.stdout.write("\\nI:" + str(j) + " Test-Acc:" + str(test_correct_cnt / float(len(test_images)))
                         + " Train-Acc:" + str(correct_cnt / float(len(images))))
"""
)

FUNCTIONS = (
    DATA
    + """\
b1, b2 = np.zeros(hidden), np.zeros((1, 4))
def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))
def forward(x):
    hidden_layer = sigmoid(x @ weights_0_1 + b1)
    return hidden_layer, sigmoid(hidden_layer @ weights_1_2 + b2)
def train(w1, w2):
    total, right = 0.0, 0
    for i in range(len(images)):
        x, t = images[i].reshape(1, -1), labels[i].reshape(1, -1)
        h, y = forward(x)
        total = total + np.sum((t - y) ** 2)
        if np.argmax(y) == np.argmax(t):
            right += 1
        dy = (y - t) * y * (1 - y)
        dh = (dy @ w2.T) * h * (1 - h)
        w2 -= alpha * (h.T @ dy)
        w1 -= alpha * (x.T @ dh)
        b2[:] -= 0 * 1
    return total, right, h
print(train(weights_0_1, weights_1_2))
"""
)
FUNCTIONS = FUNCTIONS.replace("        b2[:] -= 0 * 1\n", "")
BIASED = (
    FUNCTIONS.replace(
        "        w1 -= alpha * (x.T @ dh)\n",
        "        w1 -= alpha * (x.T @ dh)\n        db2 = dy\n        upper_b -= alpha * db2\n        lower_b -= alpha * dh.sum(axis=0)\n",
    )
    .replace("def train(w1, w2):", "def train(w1, w2, lower_b, upper_b):")
    .replace("train(weights_0_1, weights_1_2)", "train(weights_0_1, weights_1_2, b1, b2)")
)

CLASS = (
    DATA
    + """\
class Network:
    def __init__(self):
        self.w1 = weights_0_1
        self.w2 = weights_1_2
        self.error = 0.0
        self.correct = 0
    def forward(self, x):
        self.h = np.maximum(x.dot(self.w1), 0)
        return self.h.dot(self.w2)
    def step(self, x, t, rate=0.05):
        y = self.forward(x)
        self.error += ((t - y) ** 2).sum()
        self.correct += int(y.argmax() == t.argmax())
        d = t - y
        dh = np.where(self.h > 0, d.dot(self.w2.T), 0)
        self.w2 = self.w2 + rate * np.outer(self.h, d)
        self.w1 = self.w1 + rate * np.outer(x, dh)
    def fit(self):
        for i in range(len(images)):
            self.step(images[i], labels[i])
        print(self.error, self.correct, i)
network = Network()
network.h = None
for epoch in range(2):
    network.fit()
print(network.w1.sum(), weights_0_1.sum(), network.h)
"""
)

DEEP = (
    DATA
    + """\
W = [weights_0_1, 0.3 * np.random.random((7, 6)) - 0.1, 0.3 * np.random.random((6, 4)) - 0.1]
rng = np.random.default_rng(5)
for epoch in range(2):
    loss = 0.0
    for n in range(0, len(images), 6):
        values = [images[n:n + 6]]
        masks = []
        for w in W[:2]:
            keep = rng.random((6, w.shape[1])) < 0.8
            masks.append(keep)
            values.append(np.tanh(values[-1] @ w) * keep / 0.8)
        out = values[2] @ W[2]
        loss += np.sum(np.square(out - labels[n:n + 6]))
        delta = (out - labels[n:n + 6]) / 6
        for k in reversed(range(3)):
            grad = values[k].T @ delta
            if k > 0:
                delta = (delta @ W[k].T) * (1 - values[k] ** 2) * masks[k - 1]
            W[k] -= alpha * grad
    print(loss, n)
print(W[0].sum(), rng.random())
"""
)

COLUMNS = (
    DATA
    + """\
w1, w2 = weights_0_1.T.copy(), weights_1_2.T.copy()
c1, c2 = np.zeros((hidden, 1)), np.zeros((4, 1))
y = np.argmax(labels, axis=1)
hits, cost = 0, 0
for i in range(len(images)):
    x = images[i].reshape(-1, 1)
    t = labels[i][:, None]
    z = np.dot(w1, x) + c1
    a = np.tanh(z)
    o = np.dot(w2, a) + c2
    cost += float(np.sum((o - t) ** 2))
    hits += int(np.argmax(o) == y[i])
    d2 = o - t
    d1 = np.dot(w2.T, d2) * (1 - np.power(a, 2))
    w2 -= 0.05 * np.dot(d2, a.T)
    c2 -= 0.05 * d2
    w1 -= 0.05 * np.dot(d1, x.T)
    c1 -= 0.05 * d1
print(hits, cost, w1.sum(), c1.sum(), c2.ravel())
"""
)


def changed(program, *changes):
    """Return a program with pieces of its text replaced, each of which must be there."""
    for old, new in changes:
        assert old in program, old
        program = program.replace(old, new)
    return program
