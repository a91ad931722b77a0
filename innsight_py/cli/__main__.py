"""``python -m innsight_py.cli``: the command where no script is installed."""

from innsight_py.cli import main

main()
