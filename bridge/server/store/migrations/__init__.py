"""Alembic's migrations of the database. Forward only: to go back, restore a backup."""
