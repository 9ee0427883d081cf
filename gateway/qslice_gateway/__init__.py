"""The gateway of qslice: REST, the database and the ledger."""
