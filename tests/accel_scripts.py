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

# Dropout at both hidden layers, each with its own mask, and a softmax whose cross-entropy is counted.
DROPPED = (
    DATA
    + """\
w1, w2, w3 = weights_0_1, 0.3 * np.random.random((7, 6)) - 0.1, 0.3 * np.random.random((6, 4)) - 0.1
y = np.argmax(labels, axis=1)
def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
for epoch in range(3):
    loss, hits = 0.0, 0
    for n in range(0, len(images), 5):
        x, t = images[n:n + 5], labels[n:n + 5]
        a1 = np.tanh(x @ w1)
        m1 = (np.random.random(a1.shape) < 0.75) / 0.75
        a1 *= m1
        a2 = np.tanh(a1 @ w2)
        m2 = (np.random.random(a2.shape) < 0.5) / 0.5
        a2 *= m2
        p = softmax(a2 @ w3)
        loss += -np.sum(t * np.log(p))
        hits += np.sum(np.argmax(p, axis=1) == y[n:n + 5])
        d3 = (p - t) / 5
        d2 = d3 @ w3.T * (1 - a2 ** 2) * m2
        d1 = d2 @ w2.T * (1 - a1 ** 2) * m1
        w3 -= 0.5 * a2.T @ d3
        w2 -= 0.5 * a1.T @ d2
        w1 -= 0.5 * x.T @ d1
    test_loss, test_hits = 0.0, 0
    for i in range(len(test_images)):
        q = softmax(np.tanh(np.tanh(test_images[i:i + 1] @ w1) @ w2) @ w3)
        test_loss -= np.sum(test_labels[i:i + 1] * np.log(q))
        test_hits += int(np.argmax(q) == np.argmax(test_labels[i]))
    print(epoch, loss / len(images), hits, test_loss / len(test_images), test_hits)
"""
)

# Whole programs as different authors would write them: other names, layouts, containers and ways to loop.
DIGITS = """\
import sys, numpy as np
_r = np.random.RandomState(11)
_p = _r.random_sample((10, 6, 6)) * (_r.random_sample((10, 6, 6)) < 0.5)
y_train, y_test = _r.randint(10, size=240).astype(np.uint8), _r.randint(10, size=70).astype(np.uint8)
x_train = (np.clip(_p[y_train] * 200 + (_r.random_sample((240, 6, 6)) < .2) * 40, 0, 255)).astype(np.uint8)
x_test = (np.clip(_p[y_test] * 200 + (_r.random_sample((70, 6, 6)) < .2) * 40, 0, 255)).astype(np.uint8)
"""

# Gradient descent on all samples at once.
WHOLE_SET = (
    DATA
    + """\
X, T, y, n = images, labels, np.argmax(labels, axis=1), len(images)
w1, w2, b1, b2 = 3 * weights_0_1, 3 * weights_1_2, np.zeros((1, hidden)), np.zeros((1, 4))
for i in range(30):
    h = np.tanh(X @ w1 + b1)
    z = h @ w2 + b2
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    p = e / np.sum(e, axis=1, keepdims=True)
    d = (p - T) / n
    dh = d @ w2.T * (1 - h ** 2)
    w2 -= 0.5 * h.T @ d
    b2 -= 0.5 * np.sum(d, axis=0, keepdims=True)
    w1 -= 0.5 * X.T @ dh
    b1 -= 0.5 * np.sum(dh, axis=0, keepdims=True)
print(i, np.sum(w1), np.sum((p - T) ** 2))
"""
)

# Each program, and how many of its loops are replaced.
AUTHORS = {
    "dropout, functions, sys.stdout.write, every tenth epoch": (
        """\
images, labels = (x_train[0:200].reshape(200,6*6) / 255, y_train[0:200])
one_hot_labels = np.zeros((len(labels),10))
for i,l in enumerate(labels):
    one_hot_labels[i][l] = 1
labels = one_hot_labels
test_images = x_test.reshape(len(x_test),36) / 255
test_labels = np.zeros((len(y_test),10))
for i,l in enumerate(y_test):
    test_labels[i][l] = 1
np.random.seed(1)
def relu(x):
    return (x >= 0) * x
def relu2deriv(output):
    return output >= 0
alpha, iterations, hidden_size = (0.005, 21, 12)
weights_0_1 = 0.2*np.random.random((36,hidden_size)) - 0.1
weights_1_2 = 0.2*np.random.random((hidden_size,10)) - 0.1
for j in range(iterations):
    error, correct_cnt = (0.0, 0)
    for i in range(len(images)):
        layer_0 = images[i:i+1]
        layer_1 = relu(np.dot(layer_0,weights_0_1))
        dropout_mask = np.random.randint(2,size=layer_1.shape)
        layer_1 *= dropout_mask * 2
        layer_2 = np.dot(layer_1,weights_1_2)
        error += np.sum((labels[i:i+1] - layer_2) ** 2)
        correct_cnt += int(np.argmax(layer_2) == np.argmax(labels[i:i+1]))
        layer_2_delta = (labels[i:i+1] - layer_2)
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * relu2deriv(layer_1)
        layer_1_delta *= dropout_mask
        weights_1_2 += alpha * layer_1.T.dot(layer_2_delta)
        weights_0_1 += alpha * layer_0.T.dot(layer_1_delta)
    if(j%10 == 0):
        test_error = 0.0
        test_correct_cnt = 0
        for i in range(len(test_images)):
            layer_0 = test_images[i:i+1]
            layer_1 = relu(np.dot(layer_0,weights_0_1))
            layer_2 = np.dot(layer_1, weights_1_2)
            test_error += np.sum((test_labels[i:i+1] - layer_2) ** 2)
            test_correct_cnt += int(np.argmax(layer_2) == np.argmax(test_labels[i:i+1]))
        sys.stdout.write("\\n" + "I:" + str(j) + " Test-Err:" + str(test_error/ float(len(test_images)))[0:5] + " Test-Acc:" + str(test_correct_cnt/ float(len(test_images)))+ " Train-Err:" + str(error/ float(len(images)))[0:5] + " Train-Acc:" + str(correct_cnt/ float(len(images))))
""",
        2,
    ),
    "tanh, softmax, square of the batch size, every epoch": (
        """\
images, labels = (x_train[0:200].reshape(200,36) / 255, y_train[0:200])
one_hot_labels = np.zeros((len(labels),10))
for i,l in enumerate(labels):
    one_hot_labels[i][l] = 1
labels = one_hot_labels
test_images = x_test.reshape(len(x_test),36) / 255
test_labels = np.zeros((len(y_test),10))
for i,l in enumerate(y_test):
    test_labels[i][l] = 1
np.random.seed(1)
def tanh(x):
    return np.tanh(x)
def tanh2deriv(output):
    return 1 - (output ** 2)
def softmax(x):
    temp = np.exp(x)
    return temp / np.sum(temp, axis=1, keepdims=True)
alpha, iterations, hidden_size = (2, 21, 12)
pixels_per_image, num_labels = (36, 10)
batch_size = 20
weights_0_1 = 0.02*np.random.random((pixels_per_image,hidden_size))-0.01
weights_1_2 = 0.2*np.random.random((hidden_size,num_labels)) - 0.1
for j in range(iterations):
    correct_cnt = 0
    for i in range(int(len(images) / batch_size)):
        batch_start, batch_end=((i * batch_size),((i+1)*batch_size))
        layer_0 = images[batch_start:batch_end]
        layer_1 = tanh(np.dot(layer_0,weights_0_1))
        dropout_mask = np.random.randint(2,size=layer_1.shape)
        layer_1 *= dropout_mask * 2
        layer_2 = softmax(np.dot(layer_1,weights_1_2))
        for k in range(batch_size):
            correct_cnt += int(np.argmax(layer_2[k:k+1]) == np.argmax(labels[batch_start+k:batch_start+k+1]))
        layer_2_delta = (labels[batch_start:batch_end]-layer_2) / (batch_size * layer_2.shape[0])
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * tanh2deriv(layer_1)
        layer_1_delta *= dropout_mask
        weights_1_2 += alpha * layer_1.T.dot(layer_2_delta)
        weights_0_1 += alpha * layer_0.T.dot(layer_1_delta)
    test_correct_cnt = 0
    for i in range(len(test_images)):
        layer_0 = test_images[i:i+1]
        layer_1 = tanh(np.dot(layer_0,weights_0_1))
        layer_2 = np.dot(layer_1,weights_1_2)
        test_correct_cnt += int(np.argmax(layer_2) == np.argmax(test_labels[i:i+1]))
    if(j % 10 == 0):
        sys.stdout.write("\\n"+ "I:" + str(j) + " Test-Acc:"+str(test_correct_cnt/float(len(test_images)))+ " Train-Acc:" + str(correct_cnt/float(len(images))))
""",
        2,
    ),
    "zip over two arrays, biases": (
        """\
def sigmoid(x):
    return 1 / (1 + np.exp(-x))
def sigmoid_deriv(a):
    return a * (1 - a)
def one_hot(y, n=10):
    out = np.zeros((y.size, n))
    out[np.arange(y.size), y] = 1
    return out
X = x_train.reshape(-1, 36) / 255.0
Y = one_hot(y_train)
rng = np.random.RandomState(0)
W1 = rng.randn(36, 16) * 0.1
b1 = np.zeros(16)
W2 = rng.randn(16, 10) * 0.1
b2 = np.zeros(10)
lr = 0.1
def forward(x):
    a1 = sigmoid(x @ W1 + b1)
    a2 = sigmoid(a1 @ W2 + b2)
    return a1, a2
for epoch in range(5):
    loss = 0
    correct = 0
    for x, y in zip(X, Y):
        a1, a2 = forward(x)
        loss += 0.5 * np.sum((a2 - y) ** 2)
        correct += np.argmax(a2) == np.argmax(y)
        d2 = (a2 - y) * sigmoid_deriv(a2)
        d1 = (W2 @ d2) * sigmoid_deriv(a1)
        W2 -= lr * np.outer(a1, d2)
        b2 -= lr * d2
        W1 -= lr * np.outer(x, d1)
        b1 -= lr * d1
    print(f"epoch {epoch + 1}: loss={loss / len(X):.6f} acc={correct / len(X):.4f}")
""",
        1,
    ),
    "enumerate and zip, reshaped samples": (
        """\
X_train = x_train.reshape(len(x_train), -1).astype(np.float64) / 255
T = np.eye(10)[y_train]
np.random.seed(42)
w_ih = np.random.uniform(-0.1, 0.1, (36, 14))
w_ho = np.random.uniform(-0.1, 0.1, (14, 10))
for e in range(4):
    total = 0.0
    hits = 0
    for i, (x, t) in enumerate(zip(X_train, T)):
        x = x.reshape(1, 36)
        t = t.reshape(1, 10)
        h = np.tanh(x.dot(w_ih))
        o = h.dot(w_ho)
        diff = o - t
        total += (diff ** 2).sum()
        if o.argmax() == t.argmax():
            hits += 1
        grad_ho = h.T.dot(diff)
        grad_ih = x.T.dot(diff.dot(w_ho.T) * (1 - h * h))
        w_ho = w_ho - 0.01 * grad_ho
        w_ih = w_ih - 0.01 * grad_ih
    print(e, total / (i + 1), hits / (i + 1))
""",
        1,
    ),
    "a permutation, gathered batches, one-hot labels": (
        """\
X = x_train.reshape(-1, 36).astype(np.float64) / 255
y = y_train.astype(int)
np.random.seed(5)
W1 = np.random.randn(36, 15) * 0.1
W2 = np.random.randn(15, 10) * 0.1
batch_size = 12
for epoch in range(5):
    idx = np.random.permutation(len(X))
    losses = []
    correct = 0
    for i in range(0, len(X), batch_size):
        batch = idx[i:i + batch_size]
        xb = X[batch]
        yb = np.eye(10)[y[batch]]
        h = np.maximum(xb @ W1, 0)
        logits = h @ W2
        ex = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = ex / ex.sum(axis=1, keepdims=True)
        correct += (p.argmax(axis=1) == y[batch]).sum()
        d = (p - yb) / batch_size
        dW2 = h.T @ d
        dh = d @ W2.T
        dh[h <= 0] = 0
        dW1 = xb.T @ dh
        W1 -= 0.2 * dW1
        W2 -= 0.2 * dW2
    print(epoch, correct / len(X), W1.sum())
""",
        1,
    ),
    "a class, shuffled copies, a Generator": (
        """\
class Net:
    def __init__(self, sizes, seed=0):
        rng = np.random.default_rng(seed)
        self.weights = [rng.normal(0, 0.2, (a, b)) for a, b in zip(sizes[:-1], sizes[1:])]
        self.biases = [np.zeros(b) for b in sizes[1:]]
    def forward(self, x):
        activations = [x]
        for w, b in zip(self.weights[:-1], self.biases[:-1]):
            activations.append(np.tanh(activations[-1] @ w + b))
        activations.append(activations[-1] @ self.weights[-1] + self.biases[-1])
        return activations
    def backward(self, activations, y, lr):
        delta = (activations[-1] - y) / len(y)
        for l in range(len(self.weights) - 1, -1, -1):
            dw = activations[l].T @ delta
            db = delta.sum(axis=0)
            if l > 0:
                delta = (delta @ self.weights[l].T) * (1 - activations[l] ** 2)
            self.weights[l] -= lr * dw
            self.biases[l] -= lr * db
    def fit(self, X, Y, epochs, batch_size, lr, rng):
        n = len(X)
        for epoch in range(epochs):
            order = rng.permutation(n)
            X, Y = X[order], Y[order]
            loss = 0.0
            for start in range(0, n, batch_size):
                xb = X[start:start + batch_size]
                yb = Y[start:start + batch_size]
                acts = self.forward(xb)
                loss += np.mean((acts[-1] - yb) ** 2)
                self.backward(acts, yb, lr)
            sys.stdout.write(f"{epoch}: {loss / (n // batch_size):.10f}\\n")
net = Net([36, 16, 12, 10])
net.fit(x_train.reshape(-1, 36) / 255, np.eye(10)[y_train], 4, 24, 0.3, np.random.default_rng(1))
acc = (net.forward(x_test.reshape(-1, 36) / 255)[-1].argmax(1) == y_test).mean()
print("accuracy", acc)
""",
        1,
    ),
    "bytes scaled and one-hot vectors set in the loop": (
        """\
np.random.seed(1)
lr = 0.02
W_in = np.random.rand(36, 18) * 0.2 - 0.1
W_out = np.random.rand(18, 10) * 0.2 - 0.1
for epoch in range(4):
    errors = 0.0
    ok = 0
    for i in range(len(x_train)):
        x = x_train[i].reshape(1, 36) / 255
        t = np.zeros((1, 10))
        t[0, y_train[i]] = 1
        h = x @ W_in
        h = np.where(h > 0, h, 0)
        o = h @ W_out
        errors += np.sum(np.square(t - o))
        ok += int(np.argmax(o) == y_train[i])
        d_o = o - t
        d_h = d_o @ W_out.T * np.where(h > 0, 1, 0)
        W_out -= lr * h.T @ d_o
        W_in -= lr * x.T @ d_h
    wrong = 0
    for i in range(len(x_test)):
        x = x_test[i].reshape(1, 36) / 255
        o = np.maximum(x @ W_in, 0) @ W_out
        if np.argmax(o) != y_test[i]:
            wrong += 1
    print(epoch, errors, ok, wrong)
""",
        2,
    ),
    "a list of layers, each an object": (
        """\
class Dense:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out) * 0.1
        self.b = np.zeros((1, n_out))
    def forward(self, x):
        self.x = x
        return x @ self.W + self.b
    def backward(self, grad, lr):
        gx = grad @ self.W.T
        self.W -= lr * self.x.T @ grad
        self.b -= lr * grad.sum(axis=0, keepdims=True)
        return gx
class ReLU:
    def forward(self, x):
        self.mask = x > 0
        return x * self.mask
    def backward(self, grad, lr):
        return grad * self.mask
class Tanh:
    def forward(self, x):
        self.out = np.tanh(x)
        return self.out
    def backward(self, grad, lr):
        return grad * (1 - self.out ** 2)
np.random.seed(9)
layers = [Dense(36, 20), ReLU(), Dense(20, 12), Tanh(), Dense(12, 10)]
X = x_train.reshape(len(x_train), 36) / 255
Y = np.eye(10)[y_train]
bs = 8
for epoch in range(4):
    loss = 0
    for b in range(len(X) // bs):
        out = X[b * bs:(b + 1) * bs]
        for layer in layers:
            out = layer.forward(out)
        err = out - Y[b * bs:(b + 1) * bs]
        loss += np.mean(err ** 2)
        grad = 2 * err / err.size
        for layer in reversed(layers):
            grad = layer.backward(grad, 0.5)
    print(epoch, loss / (b + 1))
""",
        1,
    ),
    "functions, a main function, update by broadcasting": (
        """\
def load():
    return x_train.reshape(-1, 36) / 255, np.eye(10)[y_train], x_test.reshape(-1, 36) / 255, y_test
def accuracy(X, y, w1, w2):
    hits = 0
    for i in range(X.shape[0]):
        h = np.tanh(X[i] @ w1)
        p = h @ w2
        hits += 1 if p.argmax() == y[i] else 0
    return hits / X.shape[0]
def run_epoch(X, T, w1, w2, lr):
    mse = 0.
    for n in range(X.shape[0]):
        x = X[n, :]
        t = T[n, :]
        h = np.tanh(x.dot(w1))
        o = h.dot(w2)
        e = t - o
        mse += e.dot(e)
        back = w2.dot(e) * (1.0 - h ** 2)
        w2 += lr * h[:, np.newaxis] * e[np.newaxis, :]
        w1 += lr * np.outer(x, back)
    return mse / X.shape[0]
def main():
    X, T, Xt, yt = load()
    rng = np.random.default_rng(7)
    w1 = rng.standard_normal((36, 12)) / 6
    w2 = rng.standard_normal((12, 10)) / 4
    for epoch in range(1, 5):
        mse = run_epoch(X, T, w1, w2, 0.02)
        if epoch % 2 == 0:
            print("%3d  mse %.12f  test %.3f" % (epoch, mse, accuracy(Xt, yt, w1, w2)))
if __name__ == "__main__":
    main()
""",
        2,
    ),
    "binomial masks": (
        """\
images = x_train.reshape(-1, 36) / 255; targets = np.eye(10)[y_train]
np.random.seed(1)
w1 = .4 * np.random.random((36, 20)) - .2
w2 = .4 * np.random.random((20, 10)) - .2
for epoch in range(3):
    e = 0.0
    for i in range(len(images)):
        x = images[i:i+1]
        h = np.maximum(x.dot(w1), 0)
        m = np.random.binomial(1, 0.5, size=h.shape)
        h *= m * 2
        o = h.dot(w2)
        e += ((o - targets[i:i+1]) ** 2).sum()
        d = o - targets[i:i+1]
        dh = d.dot(w2.T) * (h > 0) * m
        w2 -= .02 * h.T.dot(d)
        w1 -= .02 * x.T.dot(dh)
    print(epoch, e)
""",
        1,
    ),
    "a loss of logarithms": (
        """\
X = x_train.reshape(x_train.shape[0], 36) / 255.
Y = np.eye(10)[y_train]
Xt = x_test.reshape(x_test.shape[0], 36) / 255.
n = X.shape[0]
np.random.seed(0)
params = {"W1": np.random.randn(36, 20) * np.sqrt(2 / 36), "b1": np.zeros((1, 20)), "W2": np.random.randn(20, 10) * np.sqrt(2 / 20), "b2": np.zeros((1, 10))}
def softmax(z):
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
def forward(p, x):
    z1 = x @ p["W1"] + p["b1"]
    a1 = np.maximum(0, z1)
    z2 = a1 @ p["W2"] + p["b2"]
    return {"z1": z1, "a1": a1, "p": softmax(z2)}
def backward(p, c, x, y):
    m = x.shape[0]
    dz2 = (c["p"] - y) / m
    grads = {}
    grads["W2"] = c["a1"].T @ dz2
    grads["b2"] = np.sum(dz2, axis=0, keepdims=True)
    dz1 = dz2 @ p["W2"].T * (c["z1"] > 0)
    grads["W1"] = x.T @ dz1
    grads["b1"] = np.sum(dz1, axis=0, keepdims=True)
    return grads
bs, lr = 16, 0.1
for epoch in range(6):
    loss, acc = 0.0, 0
    for i in range(0, n, bs):
        xb, yb = X[i:i+bs], Y[i:i+bs]
        cache = forward(params, xb)
        loss += -np.sum(yb * np.log(cache["p"]))
        acc += np.sum(np.argmax(cache["p"], axis=1) == np.argmax(yb, axis=1))
        grads = backward(params, cache, xb, yb)
        for k in params:
            params[k] -= lr * grads[k]
    test_acc = np.mean(np.argmax(forward(params, Xt)["p"], axis=1) == y_test)
    print("Epoch %d loss %.8f acc %.4f test %.4f" % (epoch, loss / n, acc / n, test_acc))
""",
        1,
    ),
    "masks scaled before the derivative": (
        """\
X = x_train.reshape(-1, 36) / 255.0
T = np.zeros((len(X), 10)); T[np.arange(len(X)), y_train] = 1.0
rs = np.random.RandomState(4)
W = {'0_1': rs.uniform(-.3, .3, (36, 18)), '1_2': rs.uniform(-.3, .3, (18, 12)), '2_3': rs.uniform(-.3, .3, (12, 10))}
keep = 0.8
def train_step(x, t, rate):
    a1 = np.tanh(np.matmul(x, W['0_1']))
    m1 = np.random.binomial(1, keep, size=a1.shape) / keep
    a1 *= m1
    a2 = np.tanh(np.matmul(a1, W['1_2']))
    m2 = np.random.binomial(1, keep, size=a2.shape) / keep
    a2 *= m2
    o = np.matmul(a2, W['2_3'])
    g3 = (o - t) / x.shape[0]
    g2 = np.matmul(g3, W['2_3'].T) * (1 - a2 ** 2) * m2
    g1 = np.matmul(g2, W['1_2'].T) * (1 - a1 ** 2) * m1
    W['2_3'] -= rate * np.matmul(a2.T, g3)
    W['1_2'] -= rate * np.matmul(a1.T, g2)
    W['0_1'] -= rate * np.matmul(x.T, g1)
    return ((o - t) ** 2).sum()
np.random.seed(8)
for epoch in range(4):
    err = 0
    for s in range(len(X) // 10):
        err += train_step(X[s*10:(s+1)*10], T[s*10:(s+1)*10], 0.1)
    print(epoch, err)
""",
        1,
    ),
    "softmax's gradient made of its shares in place, a method for each pass, labels as numbers": (
        """\
X = x_train.reshape(240, 36) / 255.0
np.random.seed(4)
class TwoLayers:
    def __init__(self, n, h, c):
        self.params = {'W1': 0.3 * np.random.randn(n, h), 'b1': np.zeros(h), 'W2': 0.3 * np.random.randn(h, c), 'b2': np.zeros(c)}
    def loss(self, x, y):
        p, m = self.params, x.shape[0]
        hidden = np.maximum(0, x @ p['W1'] + p['b1'])
        scores = hidden @ p['W2'] + p['b2']
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = scores / scores.sum(axis=1, keepdims=True)
        value = -np.sum(np.log(shares[range(m), y])) / m
        d = shares
        d[range(m), y] -= 1
        d /= m
        grads = {'W2': hidden.T @ d, 'b2': d.sum(axis=0)}
        d = d @ p['W2'].T
        d[hidden <= 0] = 0
        grads['W1'], grads['b1'] = x.T @ d, d.sum(axis=0)
        return value, grads
net = TwoLayers(36, 15, 10)
for epoch in range(6):
    order = np.random.permutation(240)
    total = 0.0
    for k in range(0, 240, 20):
        batch = order[k:k + 20]
        value, grads = net.loss(X[batch], y_train[batch])
        total += value
        for name in net.params:
            net.params[name] -= 0.5 * grads[name]
    print(epoch, total / 12)
order = np.random.permutation(240)
W, b = np.zeros((36, 10)), np.zeros(10)
for epoch in range(3):
    hits = 0
    for i in order:
        z = X[i] @ W + b
        e = np.exp(z - np.max(z))
        q = e / np.sum(e)
        hits += int(np.argmax(q) == y_train[i])
        q[y_train[i]] += -1.0
        W -= 0.2 * np.outer(X[i], q)
        b -= 0.2 * q
    print(hits)
""",
        2,
    ),
    "lists of samples in random order, batches of them": (
        """\
import random
class Network(object):
    def __init__(self, sizes):
        self.num_layers = len(sizes)
        self.sizes = sizes
        self.biases = [np.random.randn(y, 1) for y in sizes[1:]]
        self.weights = [np.random.randn(y, x) for x, y in zip(sizes[:-1], sizes[1:])]
    def feedforward(self, a):
        for b, w in zip(self.biases, self.weights):
            a = sigmoid(np.dot(w, a)+b)
        return a
    def SGD(self, training_data, epochs, mini_batch_size, eta, test_data=None):
        if test_data: n_test = len(test_data)
        n = len(training_data)
        for j in range(epochs):
            random.shuffle(training_data)
            mini_batches = [training_data[k:k+mini_batch_size] for k in range(0, n, mini_batch_size)]
            for mini_batch in mini_batches:
                self.update_mini_batch(mini_batch, eta)
            if test_data:
                print("Epoch {0}: {1} / {2}".format(j, self.evaluate(test_data), n_test))
            else:
                print("Epoch {0} complete".format(j))
    def update_mini_batch(self, mini_batch, eta):
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        for x, y in mini_batch:
            delta_nabla_b, delta_nabla_w = self.backprop(x, y)
            nabla_b = [nb+dnb for nb, dnb in zip(nabla_b, delta_nabla_b)]
            nabla_w = [nw+dnw for nw, dnw in zip(nabla_w, delta_nabla_w)]
        self.weights = [w-(eta/len(mini_batch))*nw for w, nw in zip(self.weights, nabla_w)]
        self.biases = [b-(eta/len(mini_batch))*nb for b, nb in zip(self.biases, nabla_b)]
    def backprop(self, x, y):
        nabla_b = [np.zeros(b.shape) for b in self.biases]
        nabla_w = [np.zeros(w.shape) for w in self.weights]
        activation = x
        activations = [x]
        zs = []
        for b, w in zip(self.biases, self.weights):
            z = np.dot(w, activation)+b
            zs.append(z)
            activation = sigmoid(z)
            activations.append(activation)
        delta = self.cost_derivative(activations[-1], y) * sigmoid_prime(zs[-1])
        nabla_b[-1] = delta
        nabla_w[-1] = np.dot(delta, activations[-2].transpose())
        for l in range(2, self.num_layers):
            z = zs[-l]
            sp = sigmoid_prime(z)
            delta = np.dot(self.weights[-l+1].transpose(), delta) * sp
            nabla_b[-l] = delta
            nabla_w[-l] = np.dot(delta, activations[-l-1].transpose())
        return (nabla_b, nabla_w)
    def evaluate(self, test_data):
        test_results = [(np.argmax(self.feedforward(x)), y) for (x, y) in test_data]
        return sum(int(x == y) for (x, y) in test_results)
    def cost_derivative(self, output_activations, y):
        return (output_activations-y)
def sigmoid(z):
    return 1.0/(1.0+np.exp(-z))
def sigmoid_prime(z):
    return sigmoid(z)*(1-sigmoid(z))
def vectorized_result(j):
    e = np.zeros((10, 1))
    e[j] = 1.0
    return e
np.random.seed(3); random.seed(3)
training = [(np.reshape(x, (36, 1)) / 255, vectorized_result(y)) for x, y in zip(x_train, y_train)]
test = [(np.reshape(x, (36, 1)) / 255, y) for x, y in zip(x_test, y_test)]
net = Network([36, 15, 10])
net.SGD(training, 3, 10, 3.0, test_data=test)
""",
        1,
    ),
    "parameters under keys that are built, a list of batches of columns": (
        """\
X = x_train.reshape(240, 36).T / 255
Y = np.eye(10)[y_train].T
def start(dims):
    params = {}
    for l in range(1, len(dims)):
        params["W" + str(l)] = np.random.randn(dims[l], dims[l - 1]) / np.sqrt(dims[l - 1])
        params[f"b{l}"] = np.zeros((dims[l], 1))
    return params
def batches(X, Y, size):
    order = list(np.random.permutation(X.shape[1]))
    X, Y = X[:, order], Y[:, order]
    return [(X[:, k:k + size], Y[:, k:k + size]) for k in range(0, X.shape[1], size)]
def forward(X, params):
    caches, A = [], X
    L = len(params) // 2
    for l in range(1, L + 1):
        Z = np.dot(params["W" + str(l)], A) + params["b" + str(l)]
        caches.append((A, Z))
        if l < L:
            A = np.maximum(0, Z)
        else:
            e = np.exp(Z - np.max(Z, axis=0))
            A = e / e.sum(axis=0)
    return A, caches
def backward(AL, Y, caches, params):
    grads, m, L = {}, Y.shape[1], len(caches)
    dZ = AL - Y
    for l in reversed(range(L)):
        A, Z = caches[l]
        grads["dW" + str(l + 1)] = np.dot(dZ, A.T) / m
        grads["db" + str(l + 1)] = np.sum(dZ, axis=1, keepdims=True) / m
        if l > 0:
            dA = np.dot(params["W" + str(l + 1)].T, dZ)
            dZ = np.array(dA, copy=True)
            dZ[caches[l - 1][1] <= 0] = 0
    return grads
np.random.seed(4)
params = start([36, 20, 12, 10])
for epoch in range(3):
    cost = 0
    for batch in batches(X, Y, 32):
        (x, t) = batch
        AL, caches = forward(x, params)
        cost += -np.sum(np.multiply(np.log(AL), t))
        grads = backward(AL, t, caches, params)
        for l in range(3):
            params["W" + str(l + 1)] = params["W" + str(l + 1)] - 0.3 * grads["dW" + str(l + 1)]
            params["b" + str(l + 1)] = params["b" + str(l + 1)] - 0.3 * grads["db" + str(l + 1)]
    print("Cost after epoch %i: %f" % (epoch, cost / 240))
""",
        1,
    ),
    "samples are columns, batches end at the last but one": (
        """\
X = (x_train.reshape(240, 36) / 255.).T
Y = np.eye(10)[y_train].T
np.random.seed(5)
w1, b1 = np.random.randn(12, 36) / 6, np.zeros((12, 1))
w2, b2 = np.random.randn(10, 12) / 4, np.zeros((10, 1))
for i in range(3):
    hits = loss = 0
    for j in range(48):
        begin = j * 5
        end = min(begin + 5, X.shape[1] - 1)
        x, t = X[:, begin:end], Y[:, begin:end]
        m = end - begin
        a = 1. / (1. + np.exp(-(w1 @ x + b1)))
        z = w2 @ a + b2
        p = np.exp(z) / np.sum(np.exp(z), axis=0)
        loss -= np.sum(t * np.log(p)) / m
        hits += int(np.sum(np.argmax(p, axis=0) == np.argmax(t, axis=0)))
        d = p - t
        g = w2.T @ d * a * (1 - a)
        w2 -= .5 * (1. / m) * d @ a.T
        b2 -= .5 * (1. / m) * np.sum(d, axis=1, keepdims=True)
        w1 -= .5 * (1. / m) * g @ x.T
        b1 -= .5 * (1. / m) * g.sum(1).reshape(-1, 1)
    print(i, hits, loss)
""",
        1,
    ),
    "columns in an array of three dimensions, layers in lists": (
        """\
X = x_train.reshape(240, 36, 1) / 255.
np.random.seed(9)
W = [np.random.randn(14, 36) / 6, np.random.randn(10, 14) / 4]
B = [np.zeros((14, 1)), np.zeros((10, 1))]
sig = lambda z: 1.0 / (1.0 + np.exp(-z))
def column(j):
    v = np.zeros((10, 1)); v[j] = 1; return v
def row(j):
    v = np.zeros((1, 10)); v[0][j] = 1.0; return v
for epoch in range(3):
    good = 0
    for i in range(len(X)):
        a = [X[i]]
        for w, b in zip(W, B):
            a.append(sig(w @ a[-1] + b))
        good += int(np.argmax(a[-1]) == y_train[i])
        delta = (a[-1] - (column(y_train[i]) if epoch else row(y_train[i]).T)) * a[-1] * (1 - a[-1])
        for l in range(len(W) - 1, -1, -1):
            gw, gb = delta @ a[l].T, delta
            if l > 0:
                delta = (W[l].T @ delta) * a[l] * (1 - a[l])
            W[l] -= 0.5 * gw
            B[l] -= 0.5 * gb
    print(epoch, good)
""",
        1,
    ),
    "one iteration for the whole set, samples as columns, one gradient for all biases": (
        """\
data = np.concatenate([y_train[:, None], x_train.reshape(-1, 36)], axis=1)
data = data.T
Y = data[0].astype(int)
X = data[1:] / 255.
def init_params():
    return np.random.rand(10, 36) - .5, np.random.rand(10, 1) - .5, np.random.rand(10, 10) - .5, np.random.rand(10, 1) - .5
def ReLU(Z):
    return np.maximum(Z, 0)
def softmax(Z):
    return np.exp(Z) / sum(np.exp(Z))
def forward_prop(W1, b1, W2, b2, X):
    Z1 = W1.dot(X) + b1
    A1 = ReLU(Z1)
    Z2 = W2.dot(A1) + b2
    A2 = softmax(Z2)
    return Z1, A1, Z2, A2
def one_hot(Y):
    one_hot_Y = np.zeros((Y.size, Y.max() + 1))
    one_hot_Y[np.arange(Y.size), Y] = 1
    return one_hot_Y.T
def backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y):
    m = Y.size
    dZ2 = A2 - one_hot(Y)
    dW2 = 1 / m * dZ2.dot(A1.T)
    db2 = 1 / m * np.sum(dZ2)
    dZ1 = W2.T.dot(dZ2) * (Z1 > 0)
    dW1 = 1 / m * dZ1.dot(X.T)
    db1 = 1 / m * np.sum(dZ1)
    return dW1, db1, dW2, db2
np.random.seed(2)
def gradient_descent(X, Y, alpha, iterations):
    W1, b1, W2, b2 = init_params()
    for i in range(iterations):
        Z1, A1, Z2, A2 = forward_prop(W1, b1, W2, b2, X)
        dW1, db1, dW2, db2 = backward_prop(Z1, A1, Z2, A2, W1, W2, X, Y)
        W1 = W1 - alpha * dW1
        b1 = b1 - alpha * db1
        W2 = W2 - alpha * dW2
        b2 = b2 - alpha * db2
        if i % 10 == 0:
            print("Iteration: ", i, np.sum(np.argmax(A2, 0) == Y) / Y.size)
    return W1, b1, W2, b2
W1, b1, W2, b2 = gradient_descent(X, Y, .1, 30)
""",
        1,
    ),
}

# Programs that are not replaced, and the reason.
REFUSED = {
    "all samples at once, at a falling rate": (
        WHOLE_SET.replace("-= 0.5", "-= rate")
        .replace("for i in", "rate = 0.5\nfor i in")
        .replace("    e =", "    rate *= 0.9\n    e ="),
        "not the gradient",
    ),
    "one gradient for all biases, in batches": (
        WHOLE_SET.replace("for i in range(30)", "for k in range(0, 60, 5)")
        .replace("X @", "X[k:k + 5] @")
        .replace("X.T", "X[k:k + 5].T")
        .replace("(p - T)", "(p - T[k:k + 5])")
        .replace("np.sum(dh, axis=0, keepdims=True)", "np.sum(dh)")
        .replace("print(i", "print(k"),
        "biases get the sum",
    ),
    "all samples at once, fewer than inputs": (
        WHOLE_SET.replace("images, labels, np", "images[:15], labels[:15], np")
        .replace("labels, axis", "labels[:15], axis")
        .replace("len(images)", "15"),
        "rows of the data",
    ),
    "one gradient for all biases, which are one number": (
        WHOLE_SET.replace("np.sum(dh, axis=0, keepdims=True)", "np.sum(dh)").replace(
            "np.zeros((1, hidden))", "np.zeros((1, 1))"
        ),
        "'b1' has not one entry",
    ),
    "all samples at once, which change": (WHOLE_SET.replace("    e =", "    X *= 0.999\n    e ="), "a layer is not"),
    "float32": (
        """\
X = (x_train.reshape(-1, 36) / 255).astype("float32")
Y = np.eye(10, dtype="float32")[y_train]
np.random.seed(1)
w1 = (np.random.randn(36, 10) * .1).astype(np.float32)
w2 = (np.random.randn(10, 10) * .1).astype(np.float32)
for e in range(3):
    s = 0
    for i in range(len(X)):
        h = np.tanh(X[i:i+1] @ w1)
        o = h @ w2
        d = o - Y[i:i+1]
        s += (d ** 2).sum()
        dh = d @ w2.T * (1 - h ** 2)
        w2 -= np.float32(.05) * h.T @ d
        w1 -= np.float32(.05) * X[i:i+1].T @ dh
    print(e, s)
""",
        "float32",
    ),
    "absolute errors": (
        """\
relu = lambda x: np.maximum(x, 0)
drelu = lambda x: (x > 0).astype(float)
images = x_train.reshape(-1, 36) / 255
targets = np.eye(10)[y_train]
np.random.seed(1)
syn0 = 2 * np.random.random((36, 20)) - 1
syn1 = 2 * np.random.random((20, 10)) - 1
syn0 *= .1; syn1 *= .1
p_drop = 0.5
train_losses = []
for epoch in range(4):
    loss = 0.
    batches = len(images) // 12
    for b in range(batches):
        lo = b * 12
        hi = lo + 12
        l0 = images[lo:hi]
        l1 = relu(l0 @ syn0)
        mask = (np.random.rand(*l1.shape) > p_drop) / (1 - p_drop)
        l1 = l1 * mask
        l2 = l1 @ syn1
        l2_err = targets[lo:hi] - l2
        loss += np.mean(np.abs(l2_err))
        l1_d = l2_err @ syn1.T * drelu(l1) * mask
        syn1 += .05 * l1.T @ l2_err / 12
        syn0 += .05 * l0.T @ l1_d / 12
    train_losses.append(loss / batches)
print(train_losses)
""",
        "counts something",
    ),
    "two off the shares of the classes": (
        """\
X = x_train.reshape(240, 36) / 255.0
W = np.zeros((36, 10))
for k in range(0, 240, 20):
    z = X[k:k + 20] @ W
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p[np.arange(20), y_train[k:k + 20]] -= 2
    W -= 0.1 * X[k:k + 20].T @ p
print(W.sum())
""",
        "the forward pass is not",
    ),
    "classes of the rows in another order": (
        """\
X = x_train.reshape(240, 36) / 255.0
W = np.zeros((36, 10))
for k in range(0, 220, 20):
    z = X[k:k + 20] @ W
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    p[range(19, -1, -1), y_train[k:k + 20]] -= 1
    W -= 0.1 * X[k:k + 20].T @ p
print(W.sum())
""",
        "in-place change of a part",
    ),
}


def changed(program, *changes):
    """Return a program with pieces of its text replaced, each of which must be there."""
    for old, new in changes:
        assert old in program, old
        program = program.replace(old, new)
    return program
