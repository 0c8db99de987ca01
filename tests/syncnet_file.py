"""A state dict with the names and shapes of SyncNet's authors, and random values."""

import numpy as np

# The output channels and the kernels [in, (frames), rows, columns] of the convolutions.
_LIP = {
    0: (96, (3, 5, 7, 7)), 4: (256, (96, 1, 5, 5)), 8: (256, (256, 1, 3, 3)),
    11: (256, (256, 1, 3, 3)), 14: (256, (256, 1, 3, 3)), 18: (512, (256, 1, 6, 6)),
}  # fmt: skip
_AUD = {
    0: (64, (1, 3, 3)), 4: (192, (64, 3, 3)), 8: (384, (192, 3, 3)),
    11: (256, (384, 3, 3)), 14: (256, (256, 3, 3)), 18: (512, (256, 5, 4)),
}  # fmt: skip


def state_dict(*, counts: bool) -> dict[str, np.ndarray]:
    """Returns 60 arrays; with `counts`, also those that newer versions of PyTorch write."""
    random = np.random.default_rng(0)
    normal = lambda *shape, scale: (scale * random.standard_normal(shape)).astype(np.float32)
    arrays = {}

    def add_norm(name, width):
        arrays[f"{name}.weight"] = 1 + normal(width, scale=0.1)
        arrays[f"{name}.bias"] = normal(width, scale=0.1)
        arrays[f"{name}.running_mean"] = normal(width, scale=0.1)
        arrays[f"{name}.running_var"] = 1 + np.abs(normal(width, scale=0.1))
        if counts:
            arrays[f"{name}.num_batches_tracked"] = np.array(7, np.int64)

    def add(name, width, kernel):
        arrays[f"{name}.weight"] = normal(width, *kernel, scale=np.prod(kernel) ** -0.5)
        arrays[f"{name}.bias"] = normal(width, scale=0.1)

    for side, layers in {"lip": _LIP, "aud": _AUD}.items():
        for number, (width, kernel) in layers.items():
            add(f"netcnn{side}.{number}", width, kernel)
            add_norm(f"netcnn{side}.{number + 1}", width)
        add(f"netfc{side}.0", 512, (512,))
        add_norm(f"netfc{side}.1", 512)
        add(f"netfc{side}.3", 1024, (512,))
    return arrays
