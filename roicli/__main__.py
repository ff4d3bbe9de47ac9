"""``python -m roicli``."""

from roicli.cli.app import main

if __name__ == "__main__":
    main()
