"""``python -m innsight_py`` is the command ``innsight-py``."""

from innsight_py.cli import main

if __name__ == "__main__":
    main()
