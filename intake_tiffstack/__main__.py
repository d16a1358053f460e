"""``python -m intake_tiffstack``: the command line ``tiffstack``."""

from intake_tiffstack.cli.app import main

if __name__ == "__main__":
    main()
