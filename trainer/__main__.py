"""`python -m bisift.trainer`: trainer-cli as a module, as torchrun starts it."""

from bisift.trainer.cli import main

if __name__ == "__main__":
    main()
