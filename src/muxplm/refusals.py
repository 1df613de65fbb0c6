"""What a command that cannot go on says: one sentence and an exit code, no traceback."""

import sys

from muxplm.files import DataError, in_one_line
from muxplm.mistakes import ConfigError


def run(app):
    """Runs a typer app as the program that it is; ends the process."""
    try:
        sys.exit(app(standalone_mode=False))
    except (ConfigError, DataError) as error:
        refuse(error)
    except OSError as error:  # such as a path on which there is a file where a folder should be
        if not error.filename:
            raise
        refuse(f"{error.filename}: {error.strerror.lower()}: correct the path or what lies there")
    except (MemoryError, RuntimeError) as error:  # torch has no class for it on CPUs
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        refuse(f"out of memory ({in_one_line(error)}): take fewer rows and more accumulation")
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own, about the command line
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.ctx.get_help())
            sys.exit(error.exit_code)
        command = error.ctx.command_path if error.ctx else "muxplm"
        refuse(f"{in_one_line(error.format_message()).rstrip('.')}: see `{command} --help`", 2)


def refuse(sentence, code: int = 1):
    print(f"muxplm: {sentence}", file=sys.stderr)
    sys.exit(code)
