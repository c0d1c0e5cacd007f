"""A study that knows no torch and no dataclass: scikit-learn with a dict as configuration."""

from pytest_ablation import Mode, Study, Variant


def train(config, run):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import top_k_accuracy_score

    x, y = load_digits(return_X_y=True)
    x, y, x_test, y_test = x[:1200] / 16, y[:1200], x[1200:] / 16, y[1200:]
    run.use_data(train=(x, y), evaluation=(x_test, y_test))
    model = SGDClassifier(max_iter=run.mode.epochs, tol=None, random_state=run.seed, **config)
    model.fit(x, y)
    scores = model.decision_function(x_test)
    run.save_predictions(scores=scores)
    return {f"top{k}": top_k_accuracy_score(y_test, scores, k=k) for k in (1, 3)}


study = Study(
    "digits",
    train=train,
    baseline={"loss": "hinge", "alpha": 1e-4, "fit_intercept": True},
    variants=[
        Variant("logistic", loss="log_loss"),
        Variant("regularised", alpha=1.0),
        Variant("no_intercept", fit_intercept=False),
    ],
    metrics=["top1", "top3"],
    quick=Mode(seeds=3, epochs=5),
)


@study.cases
def test_digits(ablation):
    assert ablation.delta("top1").low > -0.5
