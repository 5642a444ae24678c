"""`python -m raytune_ft`."""

from raytune_ft.cli.app import main

if __name__ == "__main__":
    main()
