"""How large each cell is, by scale: tables are made of full; tiny shrinks all for a test of the plumbing."""

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "full": {
        "mlp": {"points": 100, "inputs": 784, "width": 512, "depth": 2, "outputs": 10},
        "cnn": {"points": 100, "side": 28, "channels": 32, "outputs": 10},
        "resnet18": {"points": 20, "side": 32, "channels": 64, "outputs": 10},
        "transformer": {"points": 20, "tokens": 32, "words": 1000, "width": 128, "layers": 4, "tags": 17},
        "gin": {"points": 20, "atoms": 30, "width": 128, "layers": 4, "outputs": 128},
        "vae": {"points": 20, "pixels": 784, "width": 400, "latent": 20},
    },
    "tiny": {
        "mlp": {"points": 4, "inputs": 12, "width": 8, "depth": 2, "outputs": 3},
        "cnn": {"points": 3, "side": 8, "channels": 2, "outputs": 3},
        "resnet18": {"points": 2, "side": 8, "channels": 2, "outputs": 3},
        "transformer": {"points": 8, "tokens": 5, "words": 11, "width": 8, "layers": 1, "tags": 3},
        "gin": {"points": 3, "atoms": 12, "width": 8, "layers": 2, "outputs": 4},
        "vae": {"points": 8, "pixels": 16, "width": 8, "latent": 3},
    },
}
