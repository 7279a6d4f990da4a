"""`python -m mousai`, for what starts modules: the same as `mousai`."""

from mousai.cli import main

if __name__ == "__main__":
    main()
