"""`python -m mousai` does the same as the command `mousai`."""

from mousai.cli import main

if __name__ == "__main__":
    main()
