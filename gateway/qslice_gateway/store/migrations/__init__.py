"""Alembic's migrations, in raw SQL."""
