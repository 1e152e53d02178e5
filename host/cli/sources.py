"""What a user names, a checkpoint, an integer network, an image or a text, as what a command needs."""

from pathlib import Path

from egret.model.errors import InputError, needs

__all__ = [
    "board_image",
    "board_named",
    "board_network",
    "board_options",
    "image_network",
    "is_image",
    "load_image",
    "load_integer",
    "load_text",
]


def is_image(source):
    """Whether a path is a file that begins like an image."""
    from egret.model.compiler.image import MAGIC

    try:
        with open(source, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except IsADirectoryError:
        return False
    except OSError as error:
        raise InputError(
            f"{source}: cannot read it: {error.strerror}; expected a checkpoint directory, an integer network or an "
            "image"
        ) from error


def load_integer(source):
    """Integer network of a checkpoint directory (quantised now), of an integer network's file, or of an image."""
    path = Path(source)
    if path.is_dir():
        from egret.model.checkpoint import load_checkpoint
        from egret.model.quantise import quantise

        return quantise(load_checkpoint(path))
    if is_image(path):
        from egret.model.compiler.compile import read_image
        from egret.model.compiler.image import Image

        return read_image(Image.load(path))
    from egret.model.integer_file import load_integer

    return load_integer(path)


def load_image(source, **options):
    """Image and integer network of anything that `load_integer` accepts, compiled now unless it is an image.

    Options are those of `egret.host.measure.simulation_images`.
    """
    from egret.host.measure import simulation_images
    from egret.model.compiler.image import Image

    parameters = load_integer(source)
    if not is_image(source):
        return simulation_images(parameters, **options)[0], parameters
    image = Image.load(source)
    for name, value in options.items():
        compiled = getattr(image.configuration, name)
        if value is not None and compiled != value:
            raise InputError(f"{source}: the image is compiled for {name} {compiled}, not {value}; give its checkpoint")
    return image, parameters


def load_text(path, vocabulary, tokens):
    """Ids of a text: all of it, or the first ``tokens + 1``."""
    from egret.model.tokens import read_text

    text = read_text(path)
    try:
        ids = vocabulary.encode(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if tokens is None:
        return ids
    if not 1 <= tokens < len(ids):
        raise InputError(f"{path}: --tokens must be from 1 to {len(ids) - 1}, the text's predictions, not {tokens}")
    return ids[: tokens + 1]


def image_network(image):
    """The integer network in an image."""
    from egret.model.compiler.compile import read_image

    return read_image(image)


def board_named(name, what):
    """The board of a name, for something that needs the tables of boards."""
    with needs("amaranth_boards", "'egret-fpga[build]'", what):
        from egret.boards.catalogue import board_named

        return board_named(name)


def board_image(board, source, *, lanes, folded, weight_bytes=None):
    """Image of anything that `load_integer` accepts for a board's core."""
    from egret.model.compiler.compile import compile_image, configuration_for
    from egret.model.compiler.image import Image

    if Path(source).is_file() and is_image(source):
        image = Image.load(source)
        if any(value is not None for value in (lanes, weight_bytes, folded)):
            raise InputError(
                f"{source}: an image is compiled already; give its checkpoint, or leave --lanes, "
                "--weight-bytes and --folded out"
            )
        return image
    parameters = board_network(board, source)
    options = board_options(board, lanes, folded, weight_bytes)
    return compile_image(parameters, configuration_for(parameters, **options))


def board_options(board, lanes, folded, weight_bytes=None):
    """Of `configuration_for`, for a board's core."""
    from egret.model.compiler.configuration import TARGETS

    options = TARGETS[board.target] | {"folded_tokens": folded}
    if lanes is not None:
        options["lanes"] = lanes
    if weight_bytes is not None:
        options["weight_bytes"] = weight_bytes or None
    return options


def board_network(board, source):
    """Integer network of anything that `load_integer` accepts, a checkpoint quantised as the board wants it."""
    if not Path(source).is_dir():
        return load_integer(source)
    from egret.model.checkpoint import load_checkpoint
    from egret.model.quantise import quantise

    return quantise(load_checkpoint(source), **board.quantised)
