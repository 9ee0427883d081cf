"""What the ledger is told by its environment (`QSLICE_…`)."""

from pydantic import Field

from qslice_gateway.settings import DatabaseSettings


class LedgerSettings(DatabaseSettings):
    """The ledger."""

    ledger_metrics_listen: str | None = Field(
        None, description="host:port of the ledger's Prometheus metrics; none where unset"
    )
    public_url: str = Field(
        "http://127.0.0.1:8000",
        description="the gateway as people reach it: download links in the metadata registry",
    )
    publish: bool = Field(
        True, description="tell the metadata publisher of finished batches and resources"
    )
    retention_days: float = Field(
        30.0, gt=0, description="days for which events and logs of finished jobs are kept"
    )
