"""`python -m dumont.local.demo`: what `make demo` runs."""

from dumont.cli.commands.local import demo
from dumont.cli.errors import OK
from dumont.cli.main import DumontGroup


def main() -> None:
    """Run the demo as a program of its own."""
    group = DumontGroup(commands={"demo": demo})
    import sys

    group.main(["demo", *sys.argv[1:]], prog_name="python -m dumont.local")
    sys.exit(OK)


if __name__ == "__main__":
    main()
