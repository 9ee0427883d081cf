CREATE TABLE projects (
    name text COLLATE "C" PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    owner text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    broker_user_at timestamptz,
    settings jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE batches (
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    name text,
    total integer NOT NULL,
    template jsonb NOT NULL,
    owner text NOT NULL,
    created_by jsonb NOT NULL DEFAULT '{}',
    request_id text,
    submitted_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    UNIQUE (project, request_id)
);
CREATE INDEX batches_listed ON batches (project, id);
CREATE INDEX batches_open ON batches (id) WHERE finished_at IS NULL;

-- No foreign key to projects: its row lock is shared by every submit of a project, and is the
-- first thing that many connections wait for. The submit itself looks whether the project is there.
CREATE TABLE jobs (
    id text COLLATE "C" PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    -- The producer's own key; what stands in `message_key` tells apart messages that have none.
    producer_id text COLLATE "C",
    message_key text COLLATE "C",
    batch_id text COLLATE "C",
    batch_index integer,
    retry_of text COLLATE "C",
    state text COLLATE "C" NOT NULL DEFAULT 'waiting' CHECK (state IN (
        'waiting', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'dead')),
    attempt integer NOT NULL DEFAULT 1,
    faults integer NOT NULL DEFAULT 0,
    payload jsonb NOT NULL,
    labels jsonb NOT NULL DEFAULT '{}',
    priority smallint NOT NULL DEFAULT 0,
    owner text NOT NULL,
    origin text COLLATE "C" NOT NULL DEFAULT 'rest' CHECK (origin IN ('rest', 'queue')),
    submitted_at timestamptz NOT NULL DEFAULT now(),
    queued_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    worker text,
    lease_s real,
    lease_until timestamptz,
    cancel_requested_at timestamptz,
    result jsonb,
    exit_code integer,
    error_owner text,
    error_code text,
    -- Its events and logs are past their retention and gone.
    purged boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
CREATE UNIQUE INDEX jobs_producer ON jobs (project, producer_id) WHERE producer_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_message ON jobs (project, message_key) WHERE message_key IS NOT NULL;
CREATE UNIQUE INDEX jobs_retry ON jobs (retry_of) WHERE retry_of IS NOT NULL;
-- Listings read one range of it per kind and state, newest first.
CREATE INDEX jobs_listed ON jobs (project, kind, state, id);
-- Without the lease itself, so that a heartbeat changes no index.
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
CREATE INDEX jobs_batch ON jobs (batch_id, state) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_batch_index ON jobs (batch_id, batch_index) WHERE batch_id IS NOT NULL;
CREATE INDEX jobs_labels ON jobs USING gin (labels jsonb_path_ops) WHERE labels <> '{}';
CREATE INDEX jobs_unpurged ON jobs (finished_at) WHERE finished_at IS NOT NULL AND NOT purged;

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 0: control and results, 1: single jobs, 2: bulk. A cancel does not wait behind a sweep.
    lane smallint NOT NULL DEFAULT 1,
    exchange text NOT NULL,
    routing_key text NOT NULL,
    headers jsonb,
    body bytea NOT NULL,
    message_id text,
    job_id text COLLATE "C",
    attempt integer,
    priority smallint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX outbox_due ON outbox (lane, not_before, id);
CREATE INDEX outbox_todo ON outbox (job_id) WHERE exchange = 'qslice.todo';

CREATE TABLE job_events (
    job_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    attempt integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    type text NOT NULL,
    data jsonb,
    PRIMARY KEY (job_id, id)
);

CREATE TABLE job_logs (
    job_id text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    attempt integer NOT NULL,
    seq integer,
    stream text,
    at timestamptz NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (job_id, id)
);
-- A message that is delivered twice is written once.
CREATE UNIQUE INDEX job_logs_seq ON job_logs (job_id, attempt, seq);

-- How much of a job's log is kept already; its row lock also orders the writers of one job, so
-- that a reader who follows by id misses no line.
CREATE TABLE job_log_sizes (
    job_id text COLLATE "C" PRIMARY KEY,
    bytes bigint NOT NULL
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    queue text,
    job_id text COLLATE "C",
    body bytea NOT NULL,
    reason text NOT NULL,
    field text,
    owner text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz,
    replayed_as text,
    deleted_at timestamptz
);
CREATE INDEX dead_letters_listed ON dead_letters (project, id) WHERE deleted_at IS NULL;

CREATE TABLE workers (
    name text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    slots integer NOT NULL,
    jobs integer NOT NULL DEFAULT 0,
    leaving boolean NOT NULL DEFAULT false,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Ledgers that listen, for `readyz`.
CREATE TABLE ledgers (
    name text COLLATE "C" PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
