"""How Alembic reaches the database: by the connection, within the transaction, that `database.migrate` gives it."""

from alembic import context

from tutelage.production.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
