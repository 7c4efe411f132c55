"""Runs revisions on the connection that `store.database` hands over, in its transaction.

For making a revision by hand: put a connection into `config.attributes` the same way and call
`alembic.command.revision(config, autogenerate=True)`.
"""

from __future__ import annotations

from alembic import context

from roost.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # all revisions or none; SQLite can, though Alembic is shy of it
)
with context.begin_transaction():
    context.run_migrations()
