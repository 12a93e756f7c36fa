"""The program `orthrus` as a module: `python -m orthrus`, or `torchrun -m orthrus`."""

from orthrus.cli import main

if __name__ == "__main__":
    main()
