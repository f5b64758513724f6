"""The console script `sam-ft` as a module: `python -m sam_ft COMMAND`, `accelerate launch -m sam_ft COMMAND`."""

from .commands.program import main


if __name__ == "__main__":
    main()
