"""Train a colorizer: `python -m colorization pix2pix --epochs 2`; or all of them: `... compare`.

`mlflow run .` calls it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from colorization import config as configuration
from colorization import plan, process
from colorization.fields import whole

if TYPE_CHECKING:
    from colorization.data.prepare import Splits

logger = logging.getLogger("colorization")

COMPARE = "compare"  # stands where a variant's name does


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line: a variant and its config's fields as flags, or `compare`."""
    parser = process.Parser(prog="python -m colorization", description=__doc__)
    variants = parser.add_subparsers(dest="variant", required=True, metavar="VARIANT")
    for name, config in configuration.VARIANTS.items():
        text = (type(config).__doc__ or "").splitlines()[0]
        variant = variants.add_parser(
            name,
            help=text,
            description=f"{text} `mlflow run . -e {name} -P epochs=2` is `--epochs 2` here.",
            usage="%(prog)s [--PARAMETER VALUE ...]",
            synonyms=dict.fromkeys(("lr", "learning_rate"), config.learning_rates),
        )
        groups = {group: variant.add_argument_group(group) for group in configuration.GROUPS}
        _add_flags(groups["what"], groups["data"])
        _add_beginnings(groups["what"])
        configuration.add_arguments(groups, config)
    own = {name: [f"-e {owner} -P {name}=..."] for name, owner in configuration.owners().items()}
    every = variants.add_parser(COMPARE, help="Train several and compare them.", synonyms=own)
    _add_flags(every, every)
    names = (name for name, config in configuration.VARIANTS.items() if config.compared)
    every.add_argument(
        "--variants",
        default=", ".join(f"{name}, {name}_rgb" for name in names),
        help="to train, separated by commas (default: %(default)s)",
    )
    every.add_argument("--epochs", default="12", help="of every training (default: 12)")
    size = configuration.Config.size
    every.add_argument("--size", default=size, help=f"of every training's pictures ({size})")
    return parser.parse_args(argv)


def _add_flags(what: argparse._ActionsContainer, data: argparse._ActionsContainer) -> None:
    data.add_argument("--data", default="sample", help=f"{configuration.DATA} (default: sample)")
    what.add_argument(
        "--register",
        default="yes",
        choices=("yes", "no"),
        help="yes: offer the model to the registry, which keeps the better one as champion "
        "(default: yes)",
    )


def _add_beginnings(what: argparse._ActionsContainer) -> None:
    what.add_argument(
        "--start_from",
        metavar="WEIGHTS",
        default="",
        help="begin with these weights: pretrained (those of the project), an earlier run's id, "
        "runs:/..., models:/..., a .keras or .h5 file, a URL, or an id or URL of Google Drive "
        "(default: none)",
    )
    what.add_argument(
        "--resume",
        metavar="RUN",
        default="",
        help="go on with a training that was stopped, in its run and with its settings: the "
        "run's id, or last for the latest one of this variant and data (default: none)",
    )
    what.add_argument(
        "--checkpoint_every",
        metavar="N",
        default="0",
        help="epochs after which the checkpoint is logged, for other machines, in place of the "
        "one before (default: 0, after the first epoch that ends ten minutes later than the "
        "last one logged)",
    )


def _configs(arguments: argparse.Namespace) -> list[configuration.Config]:
    if arguments.variant == COMPARE:
        return plan.compared(arguments.variants, arguments.epochs, arguments.size)
    whole("checkpoint_every", arguments.checkpoint_every, 0)
    return [configuration.from_arguments(configuration.VARIANTS[arguments.variant], arguments)]


@process.entry_point(parse)
def main(arguments: argparse.Namespace) -> int:
    """Train what the command line names; every training is a run of its own."""
    configs, comparing = _configs(arguments), arguments.variant == COMPARE
    from colorization.data import prepare, sources

    sources.require(arguments.data)
    if not comparing and arguments.resume:
        return resume(configs[0], arguments)
    splits = prepare.prepare(sources.fetch(arguments.data), configs[0].size)
    if comparing:
        logger.info("%s", plan.described(configs, len(splits.train.images)))
    process.import_tensorflow()  # last: nothing that can be refused should wait for it
    return compare(configs, splits, arguments) if comparing else run(configs[0], splits, arguments)


def run(config: configuration.Config, splits: Splits, arguments: argparse.Namespace) -> int:
    """Train, log one MLflow run and offer its model to the registry."""
    from colorization import experiment
    from colorization.registry import promotion

    start = experiment.starting_weights(config, splits, arguments.start_from)
    flags = {name: getattr(arguments, name) for name in ("register", "checkpoint_every")}
    trained = experiment.train_and_log(config, splits, arguments.data, start=start, flags=flags)
    promotion.finish(trained, arguments.register == "yes")
    return 0


def resume(config: configuration.Config, arguments: argparse.Namespace) -> int:
    """Go on with a training that was stopped, in its run."""
    process.import_tensorflow()
    from colorization import experiment, resumption
    from colorization.registry import promotion

    found = resumption.find(config, arguments, parse([arguments.variant]))
    promotion.finish(experiment.train_and_log(**found._asdict()), found.flags["register"] == "yes")
    return 0


def compare(
    configs: list[configuration.Config], splits: Splits, arguments: argparse.Namespace
) -> int:
    """Train what has not been trained yet, compare all and offer the best of each family.

    Returns:
        The exit status: 2 if a training broke down; the others are compared all the same.
    """
    from colorization import comparison
    from colorization.registry import promotion

    flags = {name: getattr(arguments, name) for name in ("variants", "epochs", "size", "register")}
    try:
        contenders = comparison.compare(configs, splits, arguments.data, **flags)
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note("the same command goes on from here")
        raise
    for best in comparison.best_of_families(contenders):
        logger.info("best of the %s family: %s", best.config.family, best.label)
        promotion.finish(best.candidate, arguments.register == "yes")
    return 0 if len(contenders) == len(configs) else process.REFUSED


if __name__ == "__main__":
    sys.exit(main())
