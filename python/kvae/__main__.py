"""``python -m kvae``."""

from kvae.cli import main

if __name__ == "__main__":
    main()
