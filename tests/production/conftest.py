from databases import place, postgres

__all__ = ["place", "postgres"]
