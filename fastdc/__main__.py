"""`python -m fastdc`: the command line, for where the `fastdc` program is not on the path."""

from fastdc.cli import main

if __name__ == "__main__":
    main()
