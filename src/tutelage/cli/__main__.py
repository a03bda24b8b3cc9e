"""`python -m tutelage.cli`."""

from tutelage.cli import main

main()
