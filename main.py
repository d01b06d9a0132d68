"""Train, test or use DeScarGAN. ``python main.py --help`` lists every option."""

import gc
import sys
from dataclasses import replace
from pathlib import Path

from descargan.arguments import typed_options
from descargan.cli import run
from descargan.options import Options


def main() -> int:
    typed = typed_options()
    # After the command line is known to be right, as PyTorch takes seconds to import.
    import descargan.installed  # noqa: F401
    from descargan import api
    from descargan.settings import settle

    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    options = settle(typed)
    if options.mode == "train":
        stopped_by = api.run_training(options).stopped_by
        return 128 + stopped_by if stopped_by else 0
    if options.mode == "predict":
        api.run_prediction(options)
        return 0
    if options.dataset == "Synthetic" and "dataset_path" not in typed:
        options = make_missing_dataset(options)
    api.run_test(options)
    return 0


def make_missing_dataset(options: Options) -> Options:
    """Make the synthetic data set, in the size of the weights, for a test with no data set yet."""
    if options.dataset_path.exists():
        return options
    path = Path(f"warp-set-{options.image_size}")
    if not path.exists():
        from create_synthetic_dataset import write_dataset

        print(f"making the synthetic data set at {options.image_size} x {options.image_size}")
        write_dataset(path, options.image_size)
    return replace(options, dataset_path=path)


if __name__ == "__main__":
    gc.disable()  # until all is imported, which stays: to see that takes it half a second
    sys.exit(run(main))
