"""The papers' tables and the speed tables: run from a checkout, not part of the package."""
