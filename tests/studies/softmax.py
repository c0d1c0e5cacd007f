"""A real, tiny training for the tests: softmax regression by mini-batch gradient descent in NumPy.

300 points in the plane, three overlapping classes; a run takes milliseconds. The fields that start
with ``do_`` make it misbehave in the ways that users' code does.
"""

import os
import signal

import numpy as np

BASELINE = {
    "learning_rate": 0.5,
    "momentum": 0.0,
    "use_bias": True,
    "clip_norm": None,
    "batch_size": 20,
    "train_rows": 200,
    "patience": None,
    "unused": 0,
    "do_raise": False,
    "do_die": "",
    "do_numpy": False,
}


def points(count, seed):
    """Points around three centres, and which centre each is around."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-1.5, -1.0]])
    return centres[labels] + rng.normal(0, 1.3, (count, 2)), labels


def train(config, run):
    if config["do_raise"] and run.seed == 1:
        raise RuntimeError("the disk with the data is gone | <script>")
    if config["do_die"] and run.seed == 1:
        os.kill(os.getpid(), getattr(signal, config["do_die"]))
    x, y = points(config["train_rows"], seed=1)
    x_test, y_test = points(100, seed=2)
    run.use_data(train=(x, y), evaluation=(x_test, y_test))
    weights = np.random.default_rng(run.seed_for("init")).normal(0, 0.1, (3, 3))
    velocity = np.zeros_like(weights)
    order = np.random.default_rng(run.seed_for("order"))
    losses_seen = []
    features = np.column_stack([x, np.full(len(x), float(config["use_bias"]))])
    for epoch in range(1, run.mode.epochs + 1):
        losses = []
        for batch in np.array_split(order.permutation(len(x)), len(x) // config["batch_size"]):
            probabilities = softmax(features[batch] @ weights)
            loss = -np.log(probabilities[np.arange(len(batch)), y[batch]]).mean()
            gradient = features[batch].T @ (probabilities - np.eye(3)[y[batch]]) / len(batch)
            run.step(batch, epoch=epoch, loss=loss)
            if config["clip_norm"] is not None:
                norm = np.linalg.norm(gradient)
                run.watch_limit("clip_norm", limit=config["clip_norm"], observed=norm)
                gradient *= min(1.0, config["clip_norm"] / norm)
            velocity = config["momentum"] * velocity - config["learning_rate"] * gradient
            weights = weights + velocity
            losses.append(loss)
        run.log(epoch, "train", loss=np.mean(losses))
        if config["patience"] is not None:
            losses_seen.append(validation_loss(weights, config))
            run.log(epoch, "validation", loss=losses_seen[-1])
            best = 1 + int(np.argmin(losses_seen))
            if epoch - best >= config["patience"]:
                run.stopped_early(epoch, best, config["patience"])
                break
    bias = np.full(len(x_test), float(config["use_bias"]))
    with run.forward(len(x_test)):
        scores = np.column_stack([x_test, bias]) @ weights
    correct = scores.argmax(axis=1) == y_test
    run.save_weights({"weights": weights})
    run.save_predictions(scores=scores, top1=correct)
    run.parameters = weights.size
    top2 = (np.argsort(-scores, axis=1)[:, :2] == y_test[:, None]).any(axis=1)
    convert = np.float64 if config["do_numpy"] else float
    return {
        "top1": convert(correct.mean()),
        "top2": convert(top2.mean()),
        "validation_top1": convert(validation_top1(weights, config)),
    }


def validation_loss(weights, config):
    probabilities, y = validated(weights, config)
    return -np.log(probabilities[np.arange(len(y)), y]).mean()


def validation_top1(weights, config):
    probabilities, y = validated(weights, config)
    return (probabilities.argmax(axis=1) == y).mean()


def validated(weights, config):
    """Probabilities of the classes for validation points, and which class each point is of."""
    x, y = points(100, seed=3)
    bias = np.full(len(x), float(config["use_bias"]))
    return softmax(np.column_stack([x, bias]) @ weights), y


def softmax(scores):
    scaled = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)
