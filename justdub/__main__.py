"""`python -m justdub` is the `justdub` command."""

from justdub.cli.main import main

main()
