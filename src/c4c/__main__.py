"""``python -m c4c``: the same as the console command."""

from c4c.cli.app import main

if __name__ == "__main__":
    main()
