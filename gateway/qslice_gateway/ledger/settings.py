"""What the ledger is told by its environment (`QSLICE_…`)."""

from pydantic import Field

from qslice_gateway.settings import DatabaseSettings


class LedgerSettings(DatabaseSettings):
    """The ledger."""

    ledger_metrics_listen: str | None = Field(
        None, description="host:port of the ledger's Prometheus metrics; none where unset"
    )
    retention_days: float = Field(
        30.0, gt=0, description="days for which events and logs of finished jobs are kept"
    )
