"""The ledger: moves jobs between database and broker, and is the only one who says who has a job.

Any number of them may run at once. Each statement is a guarded update that another ledger, or the
same one after a crash, may repeat without harm.
"""
