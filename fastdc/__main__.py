"""Run the command line as `python -m fastdc`, for when the `fastdc` program is not on the path."""

from fastdc.cli.main import main

if __name__ == "__main__":
    main()
